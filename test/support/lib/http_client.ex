defmodule DSPexTelemetry.HttpClient do
  @moduledoc "A client that sends what it is given, byte for byte, and reads until the server closes."

  @patience_ms 20_000

  @type response :: %{
          status: pos_integer(),
          headers: %{String.t() => String.t()},
          body: binary(),
          raw: binary()
        }

  def connect!(%{ip: ip, port: port}) do
    family = if tuple_size(ip) == 4, do: :inet, else: :inet6
    {:ok, socket} = :gen_tcp.connect(ip, port, [:binary, family, active: false], @patience_ms)
    socket
  end

  @doc "The answer to a request with these header lines."
  def request(address, method, target, headers \\ []) do
    send_raw(address, [
      "#{method} #{target} HTTP/1.1\r\nhost: localhost\r\n",
      Enum.map(headers, fn {name, value} -> [name, ": ", value, "\r\n"] end),
      "\r\n"
    ])
  end

  @doc "What is answered to these bytes, or `:closed` if nothing is."
  def send_raw(address, bytes) do
    socket = connect!(address)
    # The server may have answered and closed before it has read all.
    _ = :gen_tcp.send(socket, bytes)
    response = read(socket)
    :gen_tcp.close(socket)
    response
  end

  @doc "What the server has sent until it closed."
  @spec read(:gen_tcp.socket()) :: response() | :closed
  def read(socket) do
    case read_all(socket, []) do
      "" -> :closed
      raw -> parse(raw)
    end
  end

  defp read_all(socket, read) do
    case :gen_tcp.recv(socket, 0, @patience_ms) do
      {:ok, data} -> read_all(socket, [read | data])
      {:error, reason} when reason in [:closed, :econnreset] -> IO.iodata_to_binary(read)
      {:error, :timeout} -> raise "the server has not closed"
    end
  end

  defp parse(raw) do
    [head, body] = String.split(raw, "\r\n\r\n", parts: 2)

    ["HTTP/1." <> <<_version, " ", status::binary-3, " ", _::binary>> | lines] =
      String.split(head, "\r\n")

    headers =
      Map.new(lines, fn line ->
        [name, value] = String.split(line, ":", parts: 2)
        {String.downcase(name), String.trim(value)}
      end)

    %{status: String.to_integer(status), headers: headers, body: body, raw: raw}
  end
end
