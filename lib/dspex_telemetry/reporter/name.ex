defmodule DSPexTelemetry.Reporter.Name do
  @moduledoc false
  # Names as Prometheus takes them. Those of metrics are the same as telemetry_metrics_prometheus_core's.

  defguardp is_letter(byte) when byte in ?a..?z or byte in ?A..?Z
  defguardp is_word(byte) when is_letter(byte) or byte in ?0..?9 or byte == ?_

  @doc """
  A metric's name: its parts joined by underscores, of which what no name may have is left out, and what
  comes before the first letter. Empty if there is none.
  """
  @spec metric([atom()]) :: String.t()
  def metric(parts) do
    name = for <<byte <- Enum.map_join(parts, "_", &Atom.to_string/1)>>, is_word(byte), do: byte
    name |> Enum.drop_while(&(not is_letter(&1))) |> List.to_string()
  end

  @doc """
  A label's name: that of the tag, with an underscore for each character that no label may have; `nil` if it has
  none. Such characters at the beginning give one underscore, as Prometheus reserves names that begin with two.
  """
  @spec label(term()) :: String.t() | nil
  def label(tag) when is_atom(tag), do: tag |> Atom.to_string() |> label()

  def label(tag) when is_binary(tag) and tag != "" do
    name =
      for character <- String.codepoints(tag),
          into: "",
          do: if(character =~ ~r/\A[a-zA-Z0-9_]\z/, do: character, else: "_")

    cond do
      reserved?(tag) -> name
      name =~ ~r/\A[0-9]/ -> "_" <> name
      true -> String.replace(name, ~r/\A__+/, "_")
    end
  end

  def label(_no_name), do: nil

  @doc "Whether a label's name begins with two underscores, which Prometheus keeps for itself."
  @spec reserved?(String.t()) :: boolean()
  def reserved?(label), do: String.starts_with?(label, "__")

  @doc "An event's name, its segments joined by dots."
  @spec event([atom()]) :: String.t()
  def event(name), do: Enum.map_join(name, ".", &Atom.to_string/1)
end
