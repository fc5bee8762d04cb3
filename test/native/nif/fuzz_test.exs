defmodule DSPexTelemetry.Native.NIF.FuzzTest do
  # Decoders of foreign bytes and terms, given damaged ones. Those of the crates have their own in native/reports/tests/fuzz.
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance
  import DSPexTelemetry.TestProject

  alias DSPexTelemetry.{Fuzz, OTLP, TestCalls}

  @moduletag timeout: 600_000

  describe "HTTP requests" do
    @requests Fuzz.corpus("test/corpus/http_request")

    # Those of a server that works. httpd has not implemented some methods and versions of the protocol.
    @statuses [501, 505] ++ Enum.to_list(200..499)

    setup do
      name = start!(http: [port: 0])
      {:ok, address} = DSPexTelemetry.http_address(instance: name)
      %{name: name, address: address}
    end

    test "of the corpus are answered as their names say, and damaged ones answered or closed", %{
      name: name,
      address: address
    } do
      method = label("fuzz")
      TestCalls.call(method)
      assert_corpus(address)
      atoms = :erlang.system_info(:atom_count)

      Fuzz.run(fn ->
        {_name, request} = Enum.random(@requests)
        {_name, other} = Enum.random(@requests)
        assert status(address, Fuzz.bytes(request, other), :write) in [:closed | @statuses]
      end)

      # Other tests run beside this one.
      assert :erlang.system_info(:atom_count) - atoms < 5_000
      assert_corpus(address)
      assert row(DSPexTelemetry.report(instance: name).operations, %{method: method}).count == 1
    end

    defp assert_corpus(address) do
      for {name, request} <- @requests do
        assert {name, "#{status(address, request, nil)}"} == {name, binary_part(name, 0, 3)}
      end
    end

    # One that says it is done is not waited for.
    defp status(%{ip: ip, port: port}, request, done) do
      {:ok, socket} = :gen_tcp.connect(ip, port, [:binary, active: false])
      _ = :gen_tcp.send(socket, request)
      if done, do: :gen_tcp.shutdown(socket, done)
      answer = read(socket, "")
      :gen_tcp.close(socket)

      # httpd sends the version back as it came.
      case Regex.run(~r"\A[^\n]*? ([0-9]{3}) [A-Z][A-Za-z -]+\r\n", answer) do
        [_all, status] -> String.to_integer(status)
        nil when answer == "" -> :closed
        nil -> answer
      end
    end

    defp read(socket, read) do
      case :gen_tcp.recv(socket, 0, 20_000) do
        {:ok, bytes} -> read(socket, read <> bytes)
        {:error, reason} when reason != :timeout -> read
      end
    end
  end

  describe "answers of OTLP servers" do
    @answers Fuzz.corpus("native/reports/tests/corpus/otlp_answer")

    test "are an outcome, whatever came: what a server has taken is not lost, and what it has not is" do
      Fuzz.run(fn ->
        {_name, sample} = Enum.random(@answers)
        {_name, other} = Enum.random(@answers)
        body = Fuzz.bytes(sample, other)
        status = Enum.random([200, 202, 400, 404, 429, 503])
        type = Fuzz.bytes("application/x-protobuf", ";charset=utf-8")
        type = Enum.random(["application/x-protobuf", type])
        after_seconds = Fuzz.bytes("120", "Wed, 21 Oct 2015 07:28:00 GMT")

        headers = [
          {~c"content-type", :binary.bin_to_list(type)},
          {~c"retry-after", :binary.bin_to_list(after_seconds)}
        ]

        answer = {{~c"HTTP/1.1", status, ~c""}, headers, body}
        outcome = OTLP.outcome(answer, %{body: "", points: 7}, ["s3cret"], 1_800_000_000)
        assert_outcome(status, outcome)
      end)
    end

    defp assert_outcome(status, outcome) when status < 300 do
      case outcome do
        :ok -> :ok
        {:ok, %{lost: lost, reason: reason}} -> assert lost >= 0 and printable?(reason)
      end
    end

    defp assert_outcome(status, {:error, failure}) do
      assert failure.lost == if(status in [429, 503], do: 0, else: 7)
      assert failure.after_ms >= 0
      assert printable?(failure.reason)
    end

    defp printable?(text),
      do: String.valid?(text) and String.length(text) < 300 and not (text =~ ~r/[\x00-\x1f]/)
  end

  describe "terms given to Rust" do
    # What goes wrong may end the VM, so it is one of its own.
    test "do what they should, and damaged ones neither panic, nor end the VM, nor count" do
      output =
        evaluate!(~S"""
        alias DSPexTelemetry.{Catalogue, EventSamples, Fuzz, Native}
        alias DSPexTelemetry.Instance.{Clock, Lookup}
        {:ok, _started} = Application.ensure_all_started(:dspex_telemetry)
        Logger.configure(level: :none)
        {:ok, _pid} = DSPexTelemetry.start_link(name: Fuzzed, attach: false, cache: [])

        handle = Lookup.fetch!(Fuzzed)
        {:ok, event} = Catalogue.fetch([:dspex, :bridge, :call_method, :stop])
        plan = Map.fetch!(handle.plans, Catalogue.id(event))
        native = handle.native
        now = Clock.now()
        {:ok, snapshot} = Native.cluster_snapshot(native, :since_start, now, {100, 1_000_000})

        cache = Native.cache_open(native)
        bindings = [native: native, plan: plan, now: now, cache: cache, snapshot: snapshot]
        corpus = File.read!("test/corpus/native_calls.exs")
        {calls, _bindings} = Code.eval_string(corpus, bindings)

        kind = fn
          tuple when is_tuple(tuple) and is_atom(elem(tuple, 0)) -> elem(tuple, 0)
          tuple when is_tuple(tuple) -> :tuple
          map when is_map(map) -> :map
          binary when is_binary(binary) -> :binary
          number when is_integer(number) -> :ok
          other -> other
        end

        check = fn ->
          for {function, arguments, expected} <- calls do
            case kind.(apply(Native, function, arguments)) do
              ^expected -> :ok
              other -> IO.puts("#{function}: #{inspect(other)}, not #{inspect(expected)}")
            end
          end
        end

        operations = fn -> Native.report(native, :since_start, Clock.now()).operations end
        total = fn -> operations.() |> Enum.map(& &1.count) |> Enum.sum() end

        check.()
        before = total.()
        expected = :counters.new(1, [])
        hostile = EventSamples.hostile_terms()

        cases =
          Fuzz.run(fn ->
            {function, arguments, _expected} = Enum.random(calls)
            damaged = Fuzz.term(arguments, hostile)

            if is_list(damaged) and not List.improper?(damaged) and
                 function_exported?(Native, function, length(damaged)) do
              try do
                result = apply(Native, function, damaged)
                counts? = function == :record and (result == :ok or is_integer(result))
                if counts?, do: :counters.add(expected, 1, 1)
              rescue
                error in [ArgumentError, ErlangError] -> error
              end

              if Native.panics() > 0, do: raise("#{function} panics")
            end
          end)

        Enum.each(Process.list(), &:erlang.garbage_collect/1)
        counted = total.() - before
        check.()
        wrong = counted - :counters.get(expected, 1)
        if cases < 100, do: IO.puts("#{cases} cases only")
        IO.puts("alive, #{Native.panics()} panics, #{wrong} miscounted")
        """)

      assert output == "alive, 0 panics, 0 miscounted\n"
    end
  end
end
