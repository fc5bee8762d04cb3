defmodule Bridge.Signals do
  @moduledoc """
  Turns SIGTERM into a message, so that a run can end in its own order.

  Erlang's own handler would stop the applications under a run that goes on. It is put back by
  `restore/0`. A second signal ends the BEAM at once: whoever sends two does not want to wait.

  SIGINT cannot be had from within: the emulator keeps it for its BREAK menu, or ignores it with
  `+Bi`.
  """

  @behaviour :gen_event

  @manager :erl_signal_server
  @erlang :erl_signal_handler

  # What a shell makes of it: 128 and the signal's number.
  @exit_status 143

  @doc "From now on SIGTERM arrives at `pid` as `{:signal, :sigterm}`."
  @spec trap(pid()) :: :ok
  def trap(pid), do: :gen_event.swap_handler(@manager, {@erlang, []}, {__MODULE__, pid})

  @doc "Returns when a signal has arrived at this process."
  @spec await() :: :ok
  def await do
    receive do
      {:signal, _signal} -> :ok
    end
  end

  @spec restore() :: :ok
  def restore, do: :gen_event.swap_handler(@manager, {__MODULE__, []}, {@erlang, []})

  @doc "The exit status of a run that SIGTERM ended."
  @spec exit_status() :: 143
  def exit_status, do: @exit_status

  @impl true
  def init({pid, _erlang}), do: {:ok, %{pid: pid, signalled?: false}}

  @impl true
  def handle_event(:sigterm, %{signalled?: false} = state) do
    send(state.pid, {:signal, :sigterm})
    {:ok, %{state | signalled?: true}}
  end

  def handle_event(:sigterm, _state), do: System.halt(@exit_status)

  def handle_event(signal, state) do
    @erlang.handle_event(signal, [])
    {:ok, state}
  end

  @impl true
  def handle_call(_request, state), do: {:ok, :ok, state}
end
