defmodule Bridge.UpcallTest do
  use Bridge.Case

  doctest Bridge.Tools
  doctest Bridge.Session, only: [type: 1]

  @tool_events for stage <- [:start, :stop, :exception], do: [:dspex, :tools, :call, stage]

  setup do
    start_bridge(workers: 1)
    {:ok, session} = Session.open(%{"language" => "python"})
    %{session: session}
  end

  describe "a tool" do
    test "answers Python in the middle of a method" do
      ref = Bridge.create_instance!("Probe")
      assert Bridge.call_method(ref, "ask", ["stem", "tokens"]) == {:ok, "token"}
    end

    test "is seen with its session and its caller", %{session: session} do
      listen(@tool_events)
      ref = Bridge.create_instance!("Probe")
      Bridge.call_method!(ref, "ask", ["stem", "tokens"], session: session)

      assert_received {[_, _, _, :start], _, %{tool_name: "stem", caller: :python} = metadata}
      assert metadata.session_id == session
      assert_received {[_, _, _, :stop], _, %{tool_name: "stem", success: true}}

      Tools.call("stem", ["tokens"])
      assert_received {[_, _, _, :start], _, %{caller: :elixir}}
    end

    test "that refuses is an exception in Python, which may handle it" do
      ref = Bridge.create_instance!("Tokenizer", %{pattern: "\\d+"})

      assert {:ok, %{"stems" => stems, "refused" => 3}} =
               Bridge.call_method(ref, "stems", ["uuid", 3])

      assert stems == %{}
    end

    test "that raises is an exception event in Elixir and an exception in Python" do
      listen(@tool_events)
      ref = Bridge.create_instance!("Summarizer")

      assert {:ok, %{"refused" => [_ | _] = refused}} =
               Bridge.call_method(ref, "total", ["random", 20])

      assert "0.5" in refused
      assert_received {[_, _, _, :exception], _, %{tool_name: "to_integer", kind: :error}}
    end

    test "that nobody knows is an exception in Python" do
      ref = Bridge.create_instance!("Probe")

      assert {:error, %PythonError{type: "host.ToolError", message: message}} =
               Bridge.call_method(ref, "ask", ["nonsense", 1])

      assert message == "there is no tool nonsense/1"
    end

    test "that crashes its process does not take the worker with it" do
      busy = busy_probe()
      Process.exit(busy.tool, :kill)

      assert {:error, %PythonError{type: "host.ToolError"}} = Task.await(busy.call)
      assert Bridge.call_method(busy.ref, "echo", [1]) == {:ok, 1}
    end
  end

  describe "a session's variables" do
    test "are set and got from both sides", %{session: session} do
      ref = Bridge.create_instance!("Summarizer", %{}, session: session)
      assert Session.get(session, "mean_length") == :error
      assert {:ok, nil} = Bridge.call_method(ref, "remember", ["heapq"], session: session)
      assert {:ok, mean} = Session.get(session, "mean_length")
      assert is_float(mean)

      :ok = Session.set(session, "mean_length", 0.0)
      assert {:ok, true} = Bridge.call_method(ref, "remember", ["heapq"], session: session)
    end

    test "are an error in Python when the call has no session" do
      ref = Bridge.create_instance!("Summarizer")

      assert {:error, %PythonError{type: "host.SessionError"}} =
               Bridge.call_method(ref, "remember", ["heapq"])
    end

    test "are seen with type, size and whether they were there", %{session: session} do
      listen([[:dspex, :session, :variable, :set], [:dspex, :session, :variable, :get]])
      Session.set(session, "word", "abc")
      Session.get(session, "word")
      Session.get(session, "nothing")

      assert_received {[_, _, _, :set], %{size: 5}, %{var_name: "word", var_type: "string"}}
      assert_received {[_, _, _, :get], %{size: 5}, %{var_name: "word", found: true}}
      assert_received {[_, _, _, :get], %{size: 0}, %{var_name: "nothing", found: false}}
    end
  end

  describe "a session that ends" do
    test "takes its instances along", %{session: session} do
      ref = Bridge.create_instance!("Probe", %{}, session: session)
      Session.close(session)

      assert {:error, %PoolError{reason: {:unknown_ref, ^ref}}} = Bridge.call_method(ref, "pid")
      assert {:error, %Bridge.SessionError{}} = Session.get(session, "language")
    end

    test "says why, after how many operations", %{session: session} do
      listen([[:dspex, :session, :expired]])
      Session.set(session, "a", 1)
      Session.get(session, "a")
      Session.close(session)

      assert_received {_, %{lifetime_ms: _, total_operations: 2}, %{reason: :closed}}
    end

    test "does so by itself when nobody uses it" do
      listen([[:dspex, :session, :created], [:dspex, :session, :expired]])
      {:ok, session} = Session.open(%{}, timeout: 10)

      assert_received {[_, _, :created], %{system_time: _}, %{session_id: ^session}}
      assert_receive {[_, _, :expired], _, %{session_id: ^session, reason: :timeout}}
    end
  end
end
