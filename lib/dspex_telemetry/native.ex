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

  @spec start(map()) :: {:ok, instance(), [plan()]} | {:error, String.t()}
  def start(_definition), do: not_loaded()

  @spec stop(instance()) :: :ok
  def stop(_instance), do: not_loaded()

  @spec reset(instance()) :: :ok
  def reset(_instance), do: not_loaded()

  @spec retire_idle(instance(), non_neg_integer(), non_neg_integer()) :: non_neg_integer()
  def retire_idle(_instance, _now_ms, _timeout_ms), do: not_loaded()

  @spec info(instance()) :: map()
  def info(_instance), do: not_loaded()

  @spec report(instance()) :: map()
  def report(_instance), do: not_loaded()

  @spec report_json(instance()) :: String.t()
  def report_json(_instance), do: not_loaded()

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
