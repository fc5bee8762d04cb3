defmodule Bridge.Servers.FastRules do
  @moduledoc """
  The shipped rules, made fast enough for a test: only how long something has to last, and how
  often it is looked at, are replaced in their text.
  """

  alias Bridge.Servers

  @shipped Path.expand("../../../../../priv/prometheus", __DIR__)

  # `for` is long enough that an alert is seen pending.
  @fast %{"for" => "2s", "keep_firing_for" => "1s", "interval" => "1s"}
  @line ~r/^(\s*(?:- )?)(for|keep_firing_for|interval): *\S+ *$/m

  @doc "The paths of the shipped rule files."
  @spec shipped() :: [Path.t()]
  def shipped do
    for name <- ["recording_rules.yml", "alerting_rules.yml"], do: Path.join(@shipped, name)
  end

  @doc "Writes fast copies of the shipped rule files and returns their paths."
  @spec write() :: [Path.t()]
  def write do
    folder = Servers.new_folder("rules")

    for path <- shipped() do
      copy = Path.join(folder, Path.basename(path))
      File.write!(copy, path |> File.read!() |> fast())
      copy
    end
  end

  @doc """
  The text of a rule file, made fast.

  ## Examples

      iex> Bridge.Servers.FastRules.fast("- alert: Slow\\n  expr: x[5m] > 1\\n  for: 10m\\n")
      "- alert: Slow\\n  expr: x[5m] > 1\\n  for: 2s\\n"
  """
  @spec fast(String.t()) :: String.t()
  def fast(text) do
    Regex.replace(@line, text, fn _, indent, key -> "#{indent}#{key}: #{@fast[key]}" end)
  end
end
