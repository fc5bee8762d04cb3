defmodule DSPexTelemetry.FakeTerminal do
  @moduledoc """
  A group leader that speaks as a shell's does, with a keyboard: the process that starts it is sent
  `{:written, text}` for all that is written, and `press/2` is a key.
  """

  @doc "Starts one of 80 times 24 for the calling process, and linked to it."
  def start do
    test = self()
    driver = spawn_link(fn -> Process.sleep(:infinity) end)
    spawn_link(fn -> loop(%{test: test, driver: driver, typed: [], reader: nil}) end)
  end

  @doc "Presses a key, which may be several characters."
  def press(terminal, chars) do
    send(terminal, {:driver_id, self()})

    receive do
      {^terminal, :driver_id, driver} -> send(terminal, {driver, {:data, chars}})
    end
  end

  @doc "Takes what was typed and not read."
  def unread(terminal) do
    send(terminal, {:unread, self()})

    receive do
      {:unread, ^terminal, chars} -> chars
    end
  end

  defp loop(%{driver: driver} = state) do
    receive do
      {^driver, {:data, chars}} ->
        loop(answer(%{state | typed: state.typed ++ chars}))

      {:driver_id, from} ->
        send(from, {self(), :driver_id, driver})
        loop(state)

      {:unread, from} ->
        send(from, {:unread, self(), state.typed})
        loop(%{state | typed: []})

      {:io_request, from, as, {:get_password, :unicode}} ->
        loop(answer(%{state | reader: {from, as}}))

      {:io_request, from, as, request} ->
        send(from, {:io_reply, as, reply(request, state.test)})
        loop(state)
    end
  end

  defp answer(%{reader: {from, as}, typed: typed} = state) do
    case Enum.split_while(typed, &(&1 != ?\r)) do
      {line, [?\r | rest]} ->
        send(from, {:io_reply, as, line})
        %{state | reader: nil, typed: rest}

      {_line, []} ->
        state
    end
  end

  defp answer(state), do: state

  defp reply({:get_geometry, :columns}, _test), do: 80
  defp reply({:get_geometry, :rows}, _test), do: 24

  defp reply({:put_chars, :unicode, text}, test) do
    send(test, {:written, IO.chardata_to_string(text)})
    :ok
  end
end
