defmodule Bridge.Worker do
  @moduledoc """
  One Python process, and the port to it.

  The pool sees to it that there is one request at a time. While Python works on it, it may ask
  questions; a task answers each, so that a tool that hangs does not keep the worker from
  noticing that Python died.

  However a worker ends, three things happen: the request it had is answered with a
  `Bridge.WorkerError`, `worker_died` is emitted if `worker_spawned` was, and the Python process
  is gone.
  """

  use GenServer, restart: :temporary

  require Logger

  alias Bridge.{JSON, Pool, Python, PythonError, WorkerError}
  alias DSPexTelemetry.Emit

  # Milliseconds for Python to say hello, and to leave when it is asked to.
  @start_timeout 30_000
  @exit_timeout 2_000

  @type outcome :: {:ok, term()} | {:error, PythonError.t() | WorkerError.t()}

  @doc """
  Settings: `:id`, `:interpreter`, the `:arguments` of its script, and `:answer`, the function that
  answers Python's questions.
  """
  @spec start_link(map()) :: GenServer.on_start()
  def start_link(settings), do: GenServer.start_link(__MODULE__, settings)

  @doc """
  Sends an encoded request and waits for its reply; a worker that takes longer than `timeout`
  ms is killed.
  """
  @spec request(Pool.worker(), integer(), binary(), pos_integer()) :: outcome()
  def request(worker, request_id, frame, timeout) do
    GenServer.call(worker.pid, {:request, request_id, frame, timeout}, :infinity)
  catch
    # It ended before the request reached it.
    :exit, reason -> {:error, %WorkerError{worker_id: worker.id, reason: why(reason)}}
  end

  @doc "Lets instances go; without an answer, and when Python gets round to it."
  @spec release(pid(), [Bridge.ref()]) :: :ok
  def release(pid, refs), do: GenServer.cast(pid, {:release, refs})

  @doc "Ends the worker although Python may be busy."
  @spec stop(pid(), atom()) :: :ok
  def stop(pid, reason), do: GenServer.cast(pid, {:stop, reason})

  @impl true
  def init(settings) do
    # So that terminate/2 runs when the supervisor stops, and Python is not left behind.
    Process.flag(:trap_exit, true)
    started = System.monotonic_time()
    port = Python.open(settings.interpreter, settings.arguments)
    Process.send_after(self(), :start_timeout, @start_timeout)

    {:ok,
     %{
       id: settings.id,
       answer: settings.answer,
       port: port,
       # nil when it has ended already; its exit status is then in the mailbox.
       os_pid: Port.info(port)[:os_pid],
       started: started,
       ready?: false,
       request: nil,
       questions: %{},
       operations: 0
     }}
  end

  @impl true
  def handle_call({:request, id, frame, timeout}, from, %{request: nil} = worker) do
    write(worker, frame)
    timer = Process.send_after(self(), {:request_timeout, id}, timeout)
    {:noreply, %{worker | request: %{id: id, from: from, timer: timer}}}
  end

  @impl true
  def handle_cast({:release, refs}, worker) do
    write(worker, JSON.encode!(%{op: "release", refs: refs}))
    {:noreply, worker}
  end

  def handle_cast({:stop, reason}, worker), do: stop_now(worker, reason)

  @impl true
  def handle_info({port, {:data, data}}, %{port: port} = worker) do
    case JSON.decode(data) do
      {:ok, frame} -> handle_frame(frame, worker)
      {:error, _} -> stop_now(worker, :bad_frame)
    end
  end

  def handle_info({port, {:exit_status, status}}, %{port: port} = worker) do
    {:stop, {:shutdown, {:exit_status, status}}, %{worker | port: nil}}
  end

  # The port closed before there was an exit status, as when a write meets a closed pipe.
  def handle_info({:EXIT, port, reason}, %{port: port} = worker) do
    {:stop, {:shutdown, reason}, %{worker | port: nil}}
  end

  def handle_info({:request_timeout, id}, %{request: %{id: id}} = worker) do
    stop_now(worker, :timeout)
  end

  def handle_info({:request_timeout, _answered}, worker), do: {:noreply, worker}

  def handle_info(:start_timeout, %{ready?: false} = worker), do: stop_now(worker, :start_timeout)
  def handle_info(:start_timeout, worker), do: {:noreply, worker}

  def handle_info({task, answer}, worker) when is_map_key(worker.questions, task) do
    Process.demonitor(task, [:flush])
    {:noreply, reply_to_question(worker, task, answer)}
  end

  def handle_info({:DOWN, task, :process, _pid, reason}, worker)
      when is_map_key(worker.questions, task) do
    {:noreply, reply_to_question(worker, task, {:error, "it crashed: #{inspect(reason)}"})}
  end

  @impl true
  def terminate(reason, worker) do
    reason = why(reason)
    end_python(worker)

    if worker.ready? do
      Logger.info("#{worker.id} (Python process #{worker.os_pid}) ended: #{inspect(reason)}")
      lifetime = System.monotonic_time() - worker.started

      measurements = %{
        lifetime_ms: System.convert_time_unit(lifetime, :native, :millisecond),
        operations_handled: worker.operations
      }

      Emit.worker_died(measurements, %{worker_id: worker.id, reason: reason})
    end

    if worker.request do
      GenServer.reply(
        worker.request.from,
        {:error, %WorkerError{worker_id: worker.id, reason: reason}}
      )
    end
  end

  # Frames

  defp handle_frame(%{"op" => "hello", "python" => version}, worker) do
    startup_time = System.monotonic_time() - worker.started
    metadata = %{worker_id: worker.id, python_version: version}
    Emit.worker_spawned(%{startup_time: startup_time}, metadata)
    Pool.ready(self())
    {:noreply, %{worker | ready?: true}}
  end

  defp handle_frame(%{"op" => "result", "id" => id, "value" => value}, worker) do
    {:noreply, finish_request(worker, id, {:ok, value})}
  end

  defp handle_frame(%{"op" => "error", "id" => id} = frame, worker) do
    error = %PythonError{
      type: frame["type"],
      message: frame["message"],
      traceback: frame["traceback"]
    }

    {:noreply, finish_request(worker, id, {:error, error})}
  end

  defp handle_frame(%{"op" => "ask", "id" => id} = question, worker) do
    %{answer: answer} = worker

    task = Task.Supervisor.async_nolink(Bridge.UpcallSupervisor, fn -> answer.(question) end)

    {:noreply, put_in(worker.questions[task.ref], id)}
  end

  defp finish_request(%{request: %{id: id} = request} = worker, id, outcome) do
    Process.cancel_timer(request.timer)
    GenServer.reply(request.from, outcome)
    %{worker | request: nil, operations: worker.operations + 1}
  end

  defp reply_to_question(worker, task, answer) do
    {id, questions} = Map.pop!(worker.questions, task)
    write(worker, answer_frame(id, answer))
    %{worker | questions: questions}
  end

  defp answer_frame(id, {:ok, value}), do: JSON.encode!(%{op: "answer", id: id, value: value})
  defp answer_frame(id, {:error, text}), do: JSON.encode!(%{op: "answer", id: id, error: text})

  # A message rather than Port.command/2, which raises when Python has just died; its exit status
  # is then in the mailbox and will be dealt with.
  defp write(worker, frame), do: send(worker.port, {self(), {:command, frame}})

  # Ending

  defp stop_now(worker, reason) do
    Python.kill(worker.os_pid)
    {:stop, {:shutdown, reason}, worker}
  end

  defp end_python(%{port: nil}), do: :ok

  defp end_python(worker) do
    write(worker, JSON.encode!(%{op: "exit"}))

    with :timeout <- await_end(worker.port) do
      Python.kill(worker.os_pid)
      await_end(worker.port)
    end
  end

  defp await_end(port) do
    receive do
      {^port, {:exit_status, _}} -> :ok
      {:EXIT, ^port, _} -> :ok
    after
      @exit_timeout -> :timeout
    end
  end

  defp why({:shutdown, reason}), do: reason
  # What GenServer.call/3 exits with.
  defp why({reason, {GenServer, :call, _}}), do: why(reason)
  defp why(reason) when is_atom(reason), do: reason
  defp why(_crash), do: :crash
end
