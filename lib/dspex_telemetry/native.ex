defmodule DSPexTelemetry.Native do
  @moduledoc false
  # Stubs of the Rust library, nothing else. What the functions do is written in native/nif.

  @on_load :load

  @doc false
  def load do
    path = :filename.join(:code.priv_dir(:dspex_telemetry), ~c"native/telemetry_nif")
    :erlang.load_nif(path, :erlang.system_info(:schedulers))
  end

  @type instance :: reference()
  @type plan :: pos_integer()
  @type outcome :: :ok | :rejected | :stopped | :panicked

  @type window :: :since_start | {:last | :previous, non_neg_integer()}
  @type moment :: {now_ms :: non_neg_integer(), unix_ms :: integer()}

  @spec start(map(), non_neg_integer()) :: {:ok, instance(), [plan()]} | {:error, String.t()}
  def start(_definition, _now_ms), do: not_loaded()

  @spec stop(instance()) :: :ok
  def stop(_instance), do: not_loaded()

  @spec reset(instance(), non_neg_integer()) :: :ok
  def reset(_instance, _now_ms), do: not_loaded()

  @spec tick(instance(), non_neg_integer()) :: :ok
  def tick(_instance, _now_ms), do: not_loaded()

  @spec retire_idle(instance(), non_neg_integer(), non_neg_integer()) :: non_neg_integer()
  def retire_idle(_instance, _now_ms, _timeout_ms), do: not_loaded()

  @spec info(instance()) :: map()
  def info(_instance), do: not_loaded()

  @spec report(instance(), window(), moment()) :: map()
  def report(_instance, _window, _now), do: not_loaded()

  @spec report_json(instance(), window(), moment()) :: String.t()
  def report_json(_instance, _window, _now), do: not_loaded()

  @spec panics() :: non_neg_integer()
  def panics, do: not_loaded()

  @spec histogram(instance(), String.t(), [String.t()]) ::
          {:ok, binary(), binary()} | {:error, :not_found}
  def histogram(_instance, _metric, _labels), do: not_loaded()

  for arity <- 1..9 do
    arguments = Macro.generate_arguments(arity, __MODULE__)
    def record(unquote_splicing(arguments)), do: not_loaded({unquote_splicing(arguments)})
  end

  defp not_loaded(_arguments \\ {}), do: :erlang.nif_error(:not_loaded)
end
