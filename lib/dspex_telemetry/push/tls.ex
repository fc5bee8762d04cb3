defmodule DSPexTelemetry.Push.TLS do
  @moduledoc false
  # How the server of an https address is verified: always, by the system's certificates unless others
  # are given.

  alias DSPexTelemetry.Push.Outcome

  @doc "Options for `ssl`; none for http."
  @spec options(String.t(), String.t() | nil) :: {:ok, keyword()} | {:error, Outcome.failure()}
  def options("https:" <> _rest, cacertfile) do
    with {:ok, certificates} <- certificates(cacertfile) do
      # The name to expect, and to tell the server (SNI), is the address's host.
      {:ok,
       [
         verify: :verify_peer,
         depth: 10,
         versions: [:"tlsv1.3", :"tlsv1.2"],
         customize_hostname_check: [
           match_fun: :public_key.pkix_verify_hostname_match_fun(:https)
         ],
         # The failure is logged by us, once.
         log_level: :none
       ] ++ certificates}
    end
  end

  def options(_http, _cacertfile), do: {:ok, []}

  defp certificates(nil) do
    # As DER, in binaries that processes share; decoded they would be copied with every request.
    {:ok, [cacerts: Enum.map(:public_key.cacerts_get(), fn {:cert, der, _decoded} -> der end)]}
  rescue
    _none_found ->
      Outcome.failure(
        "this system has no CA certificates, install them or give some as :cacertfile"
      )
  end

  defp certificates(path), do: {:ok, [cacertfile: path]}
end
