defmodule DSPexTelemetry.Endpoint.FreePorts do
  @moduledoc false
  # Ports for endpoints that take a free one. httpd makes nine atoms of each address and port, and an
  # atom stays for ever. So the system is asked for a limited number of ports, and then those are taken again
  # that are free again, the one that was used the longest ago first: its last clients have gone.

  alias DSPexTelemetry.Instance.Lookup

  @limit 64

  @typep listenable ::
           (:inet.port_number() -> {:ok, :inet.port_number()} | {:error, reason :: term()})

  @doc """
  A free port of an address. It is the calling process' for as long as that lives: nobody else who asks
  here gets it.

  `listenable` says whether a port can be listened on, and with 0 which.
  """
  @spec take(:inet.ip_address(), listenable()) ::
          {:ok, :inet.port_number()} | {:error, reason :: term()}
  def take(ip, listenable) do
    with {:ok, port} <- known(ip, listenable) do
      _mine_already = claim(ip, port)
      # If another process does the same at this moment, one of the ports is not known later.
      Registry.put_meta(Lookup.registry(), key(ip), List.delete(ports(ip), port) ++ [port])
      {:ok, port}
    end
  end

  defp known(ip, listenable) do
    ports = ports(ip)
    full? = length(ports) >= @limit

    case full? && Enum.find(ports, &free?(ip, &1, listenable)) do
      port when is_integer(port) -> {:ok, port}
      _none -> listenable.(0)
    end
  end

  defp free?(ip, port, listenable) do
    claim(ip, port) and (match?({:ok, _port}, listenable.(port)) or not release(ip, port))
  end

  defp ports(ip) do
    case Registry.meta(Lookup.registry(), key(ip)) do
      {:ok, ports} -> ports
      :error -> []
    end
  end

  # Two that begin at the same time would find the same one.
  defp claim(ip, port) do
    match?({:ok, _owner}, Registry.register(Lookup.registry(), {:free_port, ip, port}, nil))
  end

  defp release(ip, port),
    do: Registry.unregister(Lookup.registry(), {:free_port, ip, port}) == :ok

  defp key(ip), do: {:free_ports, ip}
end
