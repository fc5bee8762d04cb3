defmodule Bridge.Servers.Watch do
  @moduledoc "Scrapes again and again, and compares each scrape with the one before."

  import ExUnit.Callbacks, only: [start_supervised!: 1]

  alias Bridge.Servers.Exposition

  @type seen :: %{
          scrapes: pos_integer(),
          drops: [{Exposition.series(), float(), float() | nil}],
          grown: non_neg_integer()
        }

  # Milliseconds between two scrapes; the demo wants the processors, too.
  @pause 20

  @doc "Starts under the test's supervisor."
  @spec start() :: pid()
  def start,
    do: start_supervised!({Task, fn -> watch(scrape(), %{scrapes: 1, drops: [], grown: 0}) end})

  @doc "Ends it: how often it has scraped, what went down, and between how many scrapes something went up."
  @spec stop(pid()) :: seen()
  def stop(watch) do
    send(watch, {:stop, self()})

    receive do
      {:seen, ^watch, seen} -> seen
    end
  end

  defp watch(before, seen) do
    receive do
      {:stop, from} -> send(from, {:seen, self(), seen})
    after
      @pause ->
        now = scrape()
        drops = Exposition.drops(before, now)
        grown = if Exposition.drops(now, before) == [], do: 0, else: 1

        watch(now, %{
          scrapes: seen.scrapes + 1,
          drops: drops ++ seen.drops,
          grown: seen.grown + grown
        })
    end
  end

  defp scrape, do: [format: :text] |> DSPexTelemetry.scrape() |> Exposition.cumulative()
end
