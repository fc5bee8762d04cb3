defmodule DSPexTelemetry.EmitTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance, only: [handle: 4, plans: 1, start!: 1]

  alias DSPexTelemetry.{Catalogue, Emit}

  doctest DSPexTelemetry.Emit

  @spans [
    create_instance: {[:dspex, :bridge, :create_instance], %{python_class: "Index"}},
    call_method: {[:dspex, :bridge, :call_method], %{ref: "r", method: "search"}},
    tool_call: {[:dspex, :tools, :call], %{tool_name: "clock", caller: :python}}
  ]

  @plain [
    session_created: {[:dspex, :session, :created], %{system_time: 5}, %{session_id: "s"}},
    variable_set:
      {[:dspex, :session, :variable, :set], %{size: 8},
       %{session_id: "s", var_name: "v", var_type: "float"}},
    variable_get:
      {[:dspex, :session, :variable, :get], %{size: 8},
       %{session_id: "s", var_name: "v", found: true}},
    session_expired:
      {[:dspex, :session, :expired], %{lifetime_ms: 9, total_operations: 2},
       %{session_id: "s", reason: :timeout}},
    worker_spawned:
      {[:snakepit, :worker, :spawned], %{startup_time: 100},
       %{worker_id: "w", python_version: "3.11"}},
    worker_died:
      {[:snakepit, :worker, :died], %{lifetime_ms: 10, operations_handled: 3},
       %{worker_id: "w", reason: {:exit_status, 1}}},
    queue_time:
      {[:snakepit, :pool, :queue_time], %{wait_time_us: 7}, %{worker_id: "w", command: "call"}}
  ]

  # Runs in the process that emits, so that events of other tests do not arrive.
  def forward(event, measurements, metadata, test) do
    if self() == test, do: send(test, {:event, event, measurements, metadata})
  end

  setup do
    id = {__MODULE__, self()}
    events = DSPexTelemetry.events()
    :ok = :telemetry.attach_many(id, events, &__MODULE__.forward/4, self())
    on_exit(fn -> :telemetry.detach(id) end)
  end

  for {function, {span, metadata}} <- @spans do
    describe "#{function}/2" do
      @function function
      @span span
      @metadata metadata

      test "emits start and stop with the metadata and returns what the function returns" do
        before = System.system_time()
        assert span(@function, @metadata, fn -> {:ok, "value"} end) == {:ok, "value"}

        assert [{start, started, start_metadata}, {stop, stopped, stop_metadata}] = events()
        assert {start, stop} == {@span ++ [:start], @span ++ [:stop]}

        assert %{system_time: system_time, monotonic_time: _} = started
        assert system_time in before..System.system_time()
        assert %{duration: duration, monotonic_time: _} = stopped
        assert is_integer(duration) and duration >= 0

        context = start_metadata.telemetry_span_context
        assert start_metadata == Map.put(@metadata, :telemetry_span_context, context)
        assert Map.take(stop_metadata, Map.keys(start_metadata)) == start_metadata
        assert stop_metadata.success
      end

      test "takes success from what the function returns" do
        for {value, success} <- [
              {:ok, true},
              {{:ok, 1}, true},
              {nil, true},
              {false, true},
              {{:error, :no, :pair}, true},
              {:error, false},
              {{:error, :reason}, false}
            ] do
          assert span(@function, @metadata, fn -> value end) == value
          assert [_start, {_stop, _measurements, %{success: ^success}}] = events()
        end
      end

      test "says why it failed, where the function returns why" do
        for {value, error} <- [
              {{:error, :timeout}, %{error: :timeout}},
              {{:error, nil}, %{error: nil}},
              {:error, %{}},
              {{:ok, 1}, %{}},
              {Emit.result({:error, :inner}, %{error: :said}), %{error: :said}}
            ] do
          span(@function, @metadata, fn -> value end)
          assert [{_start, _, start}, {_stop, _, stop}] = events()
          assert {value, Map.take(stop, [:error])} == {value, error}
          refute Map.has_key?(start, :error)
        end
      end

      test "lets result/2 say what success is and add metadata to the stop event only" do
        for {value, success} <- [{{:ok, 1}, false}, {{:error, 1}, true}] do
          run = fn -> Emit.result(value, %{success: success, extra: 5}) end
          assert span(@function, @metadata, run) == value
          assert [{_start, _, start}, {_stop, _, %{success: ^success, extra: 5}}] = events()
          refute Map.has_key?(start, :extra)
        end
      end

      test "derives success from the value in a result/2 that does not say it" do
        span(@function, @metadata, fn -> Emit.result({:error, :no}, %{extra: 5}) end)
        assert [_start, {_stop, _measurements, %{success: false, extra: 5}}] = events()
      end

      test "measures args and leaves them out" do
        for {args, size} <- [
              {"12345", 5},
              {[1, "two", %{three: 3.0}], :erlang.external_size([1, "two", %{three: 3.0}])}
            ] do
          span(@function, Map.put(@metadata, :args, args), fn -> :ok end)
          assert [{_start, _, start}, {_stop, _, stop}] = events()
          assert {start.args_size, stop.args_size} == {size, size}
          refute Map.has_key?(start, :args) or Map.has_key?(stop, :args)
        end
      end

      test "keeps an args_size that is given" do
        span(@function, Map.merge(@metadata, %{args: "12345", args_size: 99}), fn -> :ok end)
        assert [{_start, _, %{args_size: 99} = start}, _stop] = events()
        refute Map.has_key?(start, :args)
      end

      test "gives no args_size without args" do
        span(@function, Map.put(@metadata, :args, nil), fn -> :ok end)
        assert [{_start, _, start}, _stop] = events()
        refute Map.has_key?(start, :args_size) or Map.has_key?(start, :args)
      end

      for {kind, reason} <- [error: %ArgumentError{message: "m"}, exit: :gone, throw: {:ball, 1}] do
        @kind kind
        @reason reason

        test "emits start and exception for an #{kind} and passes it on as it was" do
          reason = @reason

          {kind, passed_on, stacktrace} =
            try do
              span(@function, @metadata, fn -> fail(@kind, reason) end)
            catch
              kind, reason -> {kind, reason, __STACKTRACE__}
            end

          assert {kind, passed_on} == {@kind, reason}
          assert [{__MODULE__, :fail, 2, _location} | _] = stacktrace

          assert [{_start, _, start}, {exception, measurements, metadata}] = events()
          assert exception == @span ++ [:exception]
          assert is_integer(measurements.duration) and measurements.duration >= 0
          assert %{kind: @kind, reason: ^reason, stacktrace: ^stacktrace} = metadata
          assert Map.take(metadata, Map.keys(start)) == start
        end
      end
    end
  end

  test "create_instance passes on the reference that the function returns" do
    for {value, ref} <- [
          {{:ok, "ref-1"}, "ref-1"},
          {{:ok, :no_binary}, nil},
          {{:ok, 5}, nil},
          {"ref-1", nil},
          {{:error, "ref-1"}, nil}
        ] do
      Emit.create_instance(%{python_class: "Index"}, fn -> value end)
      assert [_start, {_stop, _measurements, %{ref: ^ref}}] = events()
    end

    Emit.create_instance(%{python_class: "Index"}, fn -> Emit.result(:made, %{ref: "mine"}) end)
    assert [_start, {_stop, _measurements, %{ref: "mine"}}] = events()
  end

  test "call_method measures the result and says that it came from no cache" do
    for {value, size} <- [{"12345", 5}, {{:ok, [1]}, :erlang.external_size({:ok, [1]})}] do
      Emit.call_method(%{method: "m"}, fn -> value end)
      assert [_start, {_stop, %{result_size: ^size}, %{cached: false}}] = events()
    end
  end

  test "the telemetry that is asked for is one whose spans have measurements of their own" do
    # They came in 1.3.0.
    assert [[_all, requirement]] =
             Regex.scan(~r/\{:telemetry, "([^"]+)"\}/, File.read!("mix.exs"))

    for {version, enough?} <- [
          {"1.2.1", false},
          {"1.3.0", true},
          {"1.4.1", true},
          {"2.0.0", false}
        ],
        do: assert(Version.match?(version, requirement) == enough?)
  end

  test "call_method says that the result came from a cache if result/2 does" do
    Emit.call_method(%{method: "m"}, fn -> Emit.result("12345", %{cached: true}) end)
    assert [_start, {_stop, %{result_size: 5}, %{cached: true, success: true}}] = events()
  end

  test "tool_call measures the result into the metadata" do
    Emit.tool_call(%{tool_name: "clock"}, fn -> "12345" end)
    assert [_start, {_stop, measurements, %{result_size: 5}}] = events()
    refute Map.has_key?(measurements, :result_size)
  end

  for {function, {event, measurements, metadata}} <- @plain do
    test "#{function}/2 emits its event with what it is given" do
      {event, measurements, metadata} = unquote(Macro.escape({event, measurements, metadata}))
      assert apply(Emit, unquote(function), [measurements, metadata]) == :ok
      assert events() == [{event, measurements, metadata}]
    end
  end

  test "session_created fills in the system time where it is not given" do
    before = System.system_time()
    Emit.session_created(%{}, %{session_id: "s"})
    assert [{[:dspex, :session, :created], %{system_time: time}, %{session_id: "s"}}] = events()
    assert time in before..System.system_time()
  end

  test "every event of the catalogue can be emitted and is accepted as it is emitted" do
    for {function, {_span, metadata}} <- @spans do
      span(function, metadata, fn -> {:ok, "ref"} end)
      catch_exit(span(function, metadata, fn -> exit(:gone) end))
    end

    for {function, {_event, measurements, metadata}} <- @plain,
        do: apply(Emit, function, [measurements, metadata])

    emitted = events()
    names = Enum.map(emitted, &elem(&1, 0))

    assert Enum.sort(Enum.uniq(names)) ==
             Enum.sort(Enum.map(Catalogue.events([:dspex]), & &1.name))

    plans = plans(start!(attach: false))
    for {name, numbers, data} <- emitted, do: assert(handle(plans, name, numbers, data) == :ok)
  end

  test "every event that is emitted alone is described in the documentation of its function" do
    {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(Emit)

    for {function, {name, _measurements, _metadata}} <- @plain do
      [text] = for {{:function, ^function, 2}, _, _, %{"en" => text}, _} <- docs, do: text
      {:ok, event} = Catalogue.fetch(name)
      assert text =~ inspect(name)
      for field <- event.fields, do: assert(text =~ "* `:#{field.key}` - #{field.doc}")
    end
  end

  # With a stacktrace that nothing else would come up with.
  def fail(kind, reason) do
    :erlang.raise(kind, reason, [{__MODULE__, :fail, 2, []}])
  end

  defp span(function, metadata, run), do: apply(Emit, function, [metadata, run])

  defp events do
    receive do
      {:event, name, measurements, metadata} -> [{name, measurements, metadata} | events()]
    after
      0 -> []
    end
  end
end
