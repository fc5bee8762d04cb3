# Where Plug is not installed, the few functions of it that DSPexTelemetry.Plug calls are stood in for. Where
# it is, nothing of this is.
plug_installed? = Code.ensure_loaded?(Plug.Conn)

unless plug_installed? do
  defmodule Plug do
    @callback init(term()) :: term()
    @callback call(map(), term()) :: map()
  end

  defmodule Plug.Conn do
    defstruct method: "GET",
              host: "www.example.com",
              path_info: [],
              script_name: [],
              request_path: "/",
              query_string: "",
              req_headers: [],
              resp_headers: [{"cache-control", "max-age=0, private, must-revalidate"}],
              resp_body: nil,
              status: nil,
              private: %{},
              state: :unset,
              halted: false

    def get_req_header(conn, name), do: for({^name, value} <- conn.req_headers, do: value)

    def merge_resp_headers(conn, headers) do
      kept = Enum.reject(conn.resp_headers, fn {name, _} -> List.keymember?(headers, name, 0) end)
      %{conn | resp_headers: kept ++ headers}
    end

    def put_private(conn, key, value) when is_atom(key),
      do: %{conn | private: Map.put(conn.private, key, value)}

    def send_resp(%{state: :unset} = conn, status, body) when is_integer(status),
      do: %{conn | status: status, resp_body: IO.iodata_to_binary(body), state: :sent}

    def halt(conn), do: %{conn | halted: true}
  end
end

# Whether it is the real one.
plug_installed?
