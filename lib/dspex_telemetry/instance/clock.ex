defmodule DSPexTelemetry.Instance.Clock do
  @moduledoc false
  # The time that instances and the Rust core use: milliseconds since the start of the VM, which never go back.

  alias DSPexTelemetry.Native

  @doc "Now, on the clock of `now_ms/0` and in milliseconds since 1970."
  @spec now() :: Native.moment()
  def now, do: {now_ms(), System.system_time(:millisecond)}

  @doc "Milliseconds since the start of the VM."
  @spec now_ms() :: non_neg_integer()
  def now_ms do
    # Monotonic time may be negative, while the core counts up from the start of the VM.
    start = :erlang.system_info(:start_time)
    System.convert_time_unit(System.monotonic_time() - start, :native, :millisecond)
  end
end
