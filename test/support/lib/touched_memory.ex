defmodule DSPexTelemetry.TouchedMemory do
  @moduledoc """
  How much memory the VM has looked at, by the processor's own record of it (Linux): the way to see whether a
  function reads all of a large argument that takes no clock.
  """

  @clear "/proc/self/clear_refs"
  @maps "/proc/self/smaps"

  # Terms of such a size have mappings of their own, or with their like. What goes on in smaller ones anyway
  # does not count.
  @large_kib 8 * 1024

  @doc "Whether the system tells."
  def known?, do: File.exists?(@clear) and File.exists?(@maps)

  @doc """
  Bytes of large terms that were touched while a function ran, by all threads of the VM, and what it returned.
  """
  @spec by((() -> result)) :: {non_neg_integer(), result} when result: term()
  def by(fun) do
    File.write!(@clear, "1")
    result = fun.()

    touched =
      for [_all, resident, referenced] <-
            Regex.scan(~r/^Rss: +(\d+) kB$.*?^Referenced: +(\d+) kB$/ms, File.read!(@maps)),
          String.to_integer(resident) >= @large_kib,
          do: String.to_integer(referenced)

    {Enum.sum(touched) * 1024, result}
  end
end
