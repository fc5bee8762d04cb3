defmodule DSPexTelemetry.Native do
  @moduledoc false
  # Stubs of the Rust library, nothing else. What the functions do is written in native/nif.

  @on_load :load

  @doc false
  def load do
    path = :filename.join(:code.priv_dir(:dspex_telemetry), ~c"native/telemetry_nif")
    start = System.convert_time_unit(:erlang.system_info(:start_time), :native, :nanosecond)
    :erlang.load_nif(path, {:erlang.system_info(:schedulers), start})
  end

  @type instance :: reference()
  @type plan :: pos_integer()
  @type outcome :: :ok | :exemplary | :rejected | :stopped | :panicked

  @type window ::
          :since_start
          | {:last | :previous, non_neg_integer()}
          | {:between, from_ms :: non_neg_integer(), to_ms :: non_neg_integer()}
  @type moment :: {now_ms :: non_neg_integer(), unix_ms :: integer()}

  @spec start(map()) :: {:ok, instance(), [plan()]} | {:error, String.t()}
  def start(_definition), do: not_loaded()

  @spec stop(instance()) :: :ok
  def stop(_instance), do: not_loaded()

  @spec reset(instance(), moment()) :: :ok
  def reset(_instance, _now), do: not_loaded()

  @spec tick(instance(), moment()) :: :ok
  def tick(_instance, _now), do: not_loaded()

  @spec end_slice(instance(), moment()) :: :ok
  def end_slice(_instance, _now), do: not_loaded()

  @spec demand_signals(instance(), pid()) :: :ok
  def demand_signals(_instance, _pid), do: not_loaded()

  @spec retire_idle(instance(), moment(), non_neg_integer()) :: non_neg_integer()
  def retire_idle(_instance, _now, _timeout_ms), do: not_loaded()

  @spec info(instance()) :: map()
  def info(_instance), do: not_loaded()

  @spec report(instance(), window(), moment()) :: map()
  def report(_instance, _window, _now), do: not_loaded()

  @spec report_json(instance(), window(), moment()) :: String.t()
  def report_json(_instance, _window, _now), do: not_loaded()

  @spec performance(instance(), window(), moment()) :: map()
  def performance(_instance, _window, _now), do: not_loaded()

  @spec errors(instance(), window(), moment()) :: map()
  def errors(_instance, _window, _now), do: not_loaded()

  @spec usage(instance(), non_neg_integer(), moment()) :: map()
  def usage(_instance, _top, _now), do: not_loaded()

  @spec usage_in_window(instance(), non_neg_integer(), window(), moment()) :: map()
  def usage_in_window(_instance, _top, _window, _now), do: not_loaded()

  @spec declare(instance(), :class | :tool, [String.t()]) :: :ok | {:error, String.t()}
  def declare(_instance, _kind, _names), do: not_loaded()

  @spec usage_open(instance(), String.t(), String.t()) ::
          {:ok, %{path: String.t(), why: String.t()} | nil} | {:error, String.t()}
  def usage_open(_instance, _path, _owner), do: not_loaded()

  @spec usage_save(instance(), moment()) :: :ok | {:error, :no_path | String.t()}
  def usage_save(_instance, _now), do: not_loaded()

  @spec usage_close(instance(), moment()) :: :ok | {:error, String.t()}
  def usage_close(_instance, _now), do: not_loaded()

  @spec panics() :: non_neg_integer()
  def panics, do: not_loaded()

  @spec scrape(instance(), map()) :: binary()
  def scrape(_instance, _scrape), do: not_loaded()

  @spec keep_exemplar(plan(), [term()], [binary()]) :: :ok
  def keep_exemplar(_plan, _fields, _labels), do: not_loaded()

  @spec histogram(instance(), String.t(), [String.t()]) ::
          {:ok, binary(), binary()} | {:error, :not_found}
  def histogram(_instance, _metric, _labels), do: not_loaded()

  for arity <- 1..9 do
    arguments = Macro.generate_arguments(arity, __MODULE__)
    def record(unquote_splicing(arguments)), do: not_loaded({unquote_splicing(arguments)})
  end

  defp not_loaded(_arguments \\ {}), do: :erlang.nif_error(:not_loaded)
end
