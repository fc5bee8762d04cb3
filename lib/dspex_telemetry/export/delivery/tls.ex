defmodule DSPexTelemetry.Export.Delivery.TLS do
  @moduledoc false
  # How the server of an https address is verified: always, by the system's certificates unless others
  # are given.

  alias DSPexTelemetry.Export.Delivery.Outcome

  @doc "Options for `ssl`; none for http. `system` returns the system's certificates, or raises."
  @spec options(String.t(), String.t() | nil, (() -> [tuple()])) ::
          {:ok, keyword()} | {:error, Outcome.failure()}
  def options(url, cacertfile, system \\ &:public_key.cacerts_get/0)

  def options("https:" <> _rest, cacertfile, system) do
    with {:ok, certificates} <- certificates(cacertfile, system) do
      # The name to expect, and to tell the server (SNI), is the address's host.
      {:ok,
       [
         verify: :verify_peer,
         depth: 10,
         versions: [:"tlsv1.3", :"tlsv1.2"],
         customize_hostname_check: [match_fun: name_matcher()],
         # The failure is logged by us, once.
         log_level: :none
       ] ++ certificates}
    end
  end

  def options("http:" <> _rest, _cacertfile, _system), do: {:ok, []}

  # As https has it. In addition, an address such as 10.0.0.1, which httpc hands over like a name, matches a
  # certificate for that address.
  defp name_matcher do
    https = :public_key.pkix_verify_hostname_match_fun(:https)

    fn
      {:dns_id, name}, {:iPAddress, bytes} -> address?(name, bytes)
      wanted, certified -> https.(wanted, certified)
    end
  end

  defp address?(name, bytes) do
    case :inet.parse_ipv4strict_address(name) do
      {:ok, address} -> Tuple.to_list(address) == bytes
      {:error, :einval} -> false
    end
  end

  defp certificates(nil, system) do
    # As DER, in binaries that processes share; decoded they would be copied with every request.
    {:ok, [cacerts: Enum.map(system.(), fn {:cert, der, _decoded} -> der end)]}
  rescue
    _none_found ->
      Outcome.failure(
        "this system has no CA certificates, install them or give some as :cacertfile"
      )
  end

  defp certificates(path, _system), do: {:ok, [cacertfile: path]}
end
