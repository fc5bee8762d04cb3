defmodule DSPexTelemetry.Endpoint.Host do
  @moduledoc false
  # Which names requests may be for where no credentials are asked for. A browser sends the name that it
  # believes to talk to. Any web site may have a name that leads to this machine (DNS rebinding), and its
  # scripts may then read what is answered. Nobody else has the name `localhost`, and an address cannot
  # be made to lead elsewhere.

  @type hosts :: [String.t()] | :any

  @doc "Whether a value may be that of option `hosts`."
  @spec valid?(term()) :: boolean()
  def valid?(:any), do: true

  def valid?(hosts),
    do: is_list(hosts) and not List.improper?(hosts) and Enum.all?(hosts, &name?/1)

  defp name?(name),
    do:
      is_binary(name) and byte_size(name) <= 253 and name =~ ~r/\A[a-z0-9_-]+(\.[a-z0-9_-]+)*\z/i

  @doc "What is allowed, to follow \"must be\"."
  @spec allowed() :: String.t()
  def allowed,
    do: ~s(a list of host names without port such as "metrics.example.org", or :any)

  @doc """
  Whether all `host` headers of a request have names that are answered: one of `hosts`, `localhost`, a name
  below it, or an address. A request without has no name from anybody.
  """
  @spec answered?([String.t()], hosts()) :: boolean()
  def answered?(_headers, :any), do: true
  def answered?(headers, hosts), do: Enum.all?(headers, &known?(&1, hosts))

  defp known?(header, hosts) do
    name = header |> without_port() |> String.trim_trailing(".") |> String.downcase(:ascii)

    name == "localhost" or String.ends_with?(name, ".localhost") or address?(name) or
      Enum.any?(hosts, &(String.downcase(&1, :ascii) == name))
  end

  # `[::1]:80`, `::1`, `127.0.0.1:80`, `name:80`
  defp without_port(header) do
    case Regex.run(~r/\A(?:\[([^\]]*)\]|([^:\[\]]*))(?::[0-9]*)?\z/, header) do
      [_all, in_brackets] -> in_brackets
      [_all, _none, name] -> name
      nil -> header
    end
  end

  defp address?(name),
    do: match?({:ok, _address}, name |> :binary.bin_to_list() |> :inet.parse_strict_address())
end
