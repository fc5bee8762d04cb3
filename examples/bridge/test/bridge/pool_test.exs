defmodule Bridge.PoolTest do
  use Bridge.Case

  describe "the worker of a ref" do
    test "gets every call of the ref, and instances are spread over the workers" do
      start_bridge(workers: 3)
      refs = for _ <- 1..6, do: Bridge.create_instance!("Probe")
      pids = for ref <- refs, do: Bridge.call_method!(ref, "pid")

      assert pids |> Enum.uniq() |> length() == 3
      assert pids == for(ref <- refs, do: Bridge.call_method!(ref, "pid"))
    end

    test "passes values through Python unchanged" do
      start_bridge(workers: 1)
      ref = Bridge.create_instance!("Probe")
      value = %{"text" => "ünï 🐍 \u0000\"", "numbers" => [1, -2.5, 1.0e300], "none" => nil}

      assert Bridge.call_method(ref, "echo", [value]) == {:ok, value}
    end

    test "keeps what Python prints out of the frames" do
      start_bridge(workers: 1)
      ref = Bridge.create_instance!("Probe")

      # An empty line, since it ends up on this terminal.
      assert Bridge.call_method(ref, "shout", [""]) == {:ok, ""}
    end

    test "does not know it any more once it is released" do
      start_bridge(workers: 1)
      ref = Bridge.create_instance!("Probe")
      Pool.release([ref])

      assert Bridge.call_method(ref, "pid") == {:error, %PoolError{reason: {:unknown_ref, ref}}}
    end
  end

  describe "an exception in Python" do
    test "is an error of the functions without !, with its type, message and traceback" do
      start_bridge(workers: 1)

      assert {:error, %PythonError{} = error} =
               Bridge.create_instance("Tokenizer", %{pattern: "("})

      # The second name is the one since Python 3.13.
      assert error.type in ["re.error", "re.PatternError"]
      assert error.message =~ "missing )"
      assert error.traceback =~ "Traceback"
    end

    test "is raised by the functions with !" do
      start_bridge(workers: 1)
      ref = Bridge.create_instance!("SqliteIndex", %{texts: ["heapq"]})

      assert_raise PythonError, ~r/^sqlite3.OperationalError: no such table/, fn ->
        Bridge.call_method!(ref, "query", ["SELECT 1 FROM nowhere"])
      end
    end

    test "is a stop without success or an exception event, by the same rule" do
      listen([[:dspex, :bridge, :call_method, :stop], [:dspex, :bridge, :call_method, :exception]])

      start_bridge(workers: 1)
      ref = Bridge.create_instance!("Summarizer")

      Bridge.call_method(ref, "density", ["heapq", "zeugma"])
      assert_received {[_, _, _, :stop], %{duration: _}, %{method: "density", success: false}}

      catch_error(Bridge.call_method!(ref, "field", ["heapq", "mode"]))
      assert_received {[_, _, _, :exception], %{duration: _}, %{method: "field", reason: reason}}
      assert %PythonError{type: "KeyError"} = reason
    end

    test "is what a result without JSON is" do
      start_bridge(workers: 1)
      ref = Bridge.create_instance!("Probe")

      assert {:error, %PythonError{type: "ValueError"}} = Bridge.call_method(ref, "nan")
      assert {:ok, "still there"} = Bridge.call_method(ref, "echo", ["still there"])
    end
  end

  describe "the queue" do
    test "lets a call wait for its worker although others are free" do
      start_bridge(workers: 2)
      busy = busy_probe()
      waiting = queue(fn -> Bridge.call_method(busy.ref, "echo", [1]) end)

      assert %{waiting: 1} = Pool.status()
      assert {:ok, _} = Bridge.create_instance("Probe")
      assert %{waiting: 1} = Pool.status()

      unblock(busy)
      assert Task.await(busy.call) == {:ok, "done"}
      assert Task.await(waiting) == {:ok, 1}
    end

    test "serves the oldest request first" do
      start_bridge(workers: 1)
      busy = busy_probe()
      call = fn n -> Bridge.call_method(busy.ref, "ask", ["note", n]) end
      tasks = for n <- 1..5, do: queue(fn -> call.(n) end)

      unblock(busy)
      Task.await_many([busy.call | tasks])

      noted = for _ <- 1..5, do: assert_received({:noted, _}) |> elem(1)
      assert noted == [1, 2, 3, 4, 5]
    end

    test "emits how long the caller waited, and for what" do
      listen([[:snakepit, :pool, :queue_time]])
      start_bridge(workers: 1)
      ref = Bridge.create_instance!("Probe")
      assert_received {_, %{wait_time_us: us}, %{worker_id: id, command: "create_instance"}}
      assert is_integer(us) and us >= 0

      Bridge.call_method!(ref, "pid")
      assert_received {_, _, %{worker_id: ^id, command: "call_method"}}
    end

    test "replaces the worker of a caller that died in the middle of a call" do
      start_bridge(workers: 1)
      [os_pid] = os_pids(1)
      busy = busy_probe()
      Process.unlink(busy.call.pid)
      Process.exit(busy.call.pid, :kill)

      assert [other] = os_pids(1)
      assert other != os_pid
      assert %{died: %{"caller_died" => 1}} = Pool.status()
    end

    test "forgets a caller that died while it waited" do
      start_bridge(workers: 1)
      busy = busy_probe()
      waiting = queue(fn -> Bridge.call_method(busy.ref, "pid") end)
      Process.unlink(waiting.pid)
      Process.exit(waiting.pid, :kill)
      assert_receive {:DOWN, _, :process, _, :killed}

      unblock(busy)
      assert Task.await(busy.call) == {:ok, "done"}
      assert Bridge.call_method(busy.ref, "echo", [1]) == {:ok, 1}
    end
  end

  describe "the cache" do
    test "answers a pure call the second time, and says so" do
      listen([[:dspex, :bridge, :call_method, :stop]])
      start_bridge(workers: 1)
      ref = Bridge.create_instance!("Differ")
      call = fn -> Bridge.call_method(ref, "similarity", ["heapq", "difflib"], cache: true) end

      assert {:ok, similarity} = call.()
      assert_received {_, _, %{cached: false}}
      assert call.() == {:ok, similarity}
      assert_received {_, _, %{cached: true}}
    end

    test "does not keep errors" do
      listen([[:dspex, :bridge, :call_method, :stop]])
      start_bridge(workers: 1)
      ref = Bridge.create_instance!("Differ")

      for _ <- 1..2 do
        Bridge.call_method(ref, "similarity", ["no such text", "heapq"], cache: true)
        assert_received {_, _, %{cached: false, success: false}}
      end
    end
  end

  describe "Python that cannot start" do
    test "is an error with a reason for whoever asks, at once" do
      start_supervised!({Bridge, workers: 1, python: "no-such-python"})

      assert {:error, %PoolError{} = error} = Pool.await_ready()
      assert Exception.message(error) =~ "no-such-python is not on the PATH"
      assert {:error, ^error} = Bridge.create_instance("Probe")
    end

    test "is not tried for ever" do
      python = Path.join(System.tmp_dir!(), "bridge-python-#{System.unique_integer([:positive])}")
      on_exit(fn -> File.rm(python) end)

      # Says that it is Python when it is asked, and cannot do anything else.
      File.write!(python, """
      #!/bin/sh
      if [ "$2" = -c ]; then echo "$0" 3.11.0; else exit 7; fi
      """)

      File.chmod!(python, 0o755)
      start_supervised!({Bridge, workers: 1, python: python})

      assert {:error, error} = Pool.await_ready()
      assert Exception.message(error) =~ "3 in a row ended before they were ready"
      assert {:error, ^error} = Bridge.create_instance("Probe")
    end

    test "is noticed when the command is something else" do
      start_supervised!({Bridge, workers: 1, python: "true"})

      assert {:error, error} = Pool.await_ready()
      assert Exception.message(error) =~ "is not Python"
    end
  end

  test "arguments without JSON raise before a worker is taken" do
    start_bridge(workers: 1)
    ref = Bridge.create_instance!("Probe")

    assert_raise ArgumentError, fn -> Bridge.call_method(ref, "echo", [self()]) end
    assert Bridge.call_method(ref, "echo", [1]) == {:ok, 1}
  end

  test "without a pool there is an error, not an exit" do
    assert {:error, %PoolError{reason: :stopped}} = Bridge.create_instance("Probe")
  end
end
