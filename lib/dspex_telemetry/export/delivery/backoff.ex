defmodule DSPexTelemetry.Export.Delivery.Backoff do
  @moduledoc false
  # How long to wait before the next try: exponential, with full jitter, so that many clients of a
  # server that was away do not come back in step.

  import Bitwise

  # More doublings than any two bounds are apart, so that a long outage makes no huge number.
  @most_doublings 32

  @type bounds :: %{
          :retry_floor => pos_integer(),
          :retry_ceiling => pos_integer(),
          optional(atom()) => term()
        }

  @doc """
  Milliseconds to wait after so many failures in a row, at least one: evenly spread from `retry_floor` to
  `retry_floor` doubled as often, at most `retry_ceiling`. `random` is at least 0 and less than 1. What the
  server has asked for comes on top, up to `longest_ms`.
  """
  @spec delay_ms(pos_integer(), bounds(), float(), non_neg_integer(), pos_integer()) ::
          pos_integer()
  def delay_ms(failures, bounds, random, retry_after_ms \\ 0, longest_ms \\ 300_000) do
    %{retry_floor: floor, retry_ceiling: ceiling} = bounds
    highest = min(floor <<< min(failures, @most_doublings), ceiling)
    spread = trunc(random * (highest - floor + 1))
    floor + spread + min(retry_after_ms, longest_ms)
  end
end
