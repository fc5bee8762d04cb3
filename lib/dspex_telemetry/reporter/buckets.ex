defmodule DSPexTelemetry.Reporter.Buckets do
  @moduledoc false
  # Bucket bounds of a distribution: those that were given, or what suits its unit.

  @steps [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000]
  @powers_of_four for(power <- 0..10, do: Integer.pow(4, power))

  @defaults %{
    second: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    millisecond: @steps,
    microsecond: Enum.map(@steps, &(&1 * 1_000)),
    nanosecond: Enum.map(@steps, &(&1 * 1_000_000)),
    byte: Enum.map(@powers_of_four, &(&1 * 256)),
    kilobyte: @powers_of_four,
    megabyte: @powers_of_four
  }
  @of_others for(power <- 0..8, do: Integer.pow(10, power))

  @most 200
  @largest 1.0e300

  @doc "What may be given, to follow \"must be\"."
  @spec allowed() :: String.t()
  def allowed, do: "strictly increasing numbers, 1 to #{@most} of them, or {first..last, step}"

  @doc "The bounds; without any given, those that suit the unit."
  @spec cast(term(), term()) :: {:ok, [number(), ...]} | :error
  def cast(nil, :native) do
    {:ok, Enum.map(@steps, &System.convert_time_unit(&1, :millisecond, :native))}
  end

  def cast(nil, unit), do: {:ok, Map.get(@defaults, unit, @of_others)}

  def cast({%Range{first: first, last: last}, step}, _unit)
      when is_integer(step) and step > 0 and first < last and div(last - first, step) < @most,
      do: {:ok, first |> Stream.iterate(&(&1 + step)) |> Enum.take_while(&(&1 <= last))}

  def cast(bounds, _unit) do
    valid? =
      is_list(bounds) and not List.improper?(bounds) and length(bounds) in 1..@most and
        Enum.all?(bounds, &(is_number(&1) and abs(&1) <= @largest)) and increasing?(bounds)

    if valid?, do: {:ok, bounds}, else: :error
  end

  defp increasing?(bounds) do
    bounds = Enum.map(bounds, &(&1 / 1))
    bounds == bounds |> Enum.sort() |> Enum.dedup()
  end
end
