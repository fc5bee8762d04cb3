defmodule DSPexTelemetry.Top.Terminal do
  @moduledoc false
  # The terminal while a screen is on it: its alternate screen, its size, and the first key.
  #
  # A process of its own, the keeper, holds the terminal for the owner that opened it. It gives the
  # terminal back when the owner says so or dies, however it dies.
  #
  # Up to OTP 27 a shell reads lines, and no request returns after one key. But the shell's group
  # leader gets every key from its driver as a message, `{driver, {:data, chars}}`. So the keeper
  # asks for a password, which is a line that is neither echoed nor remembered, and traces what the
  # group leader receives. At the first key it sends the group leader the Enter that completes the
  # line, and with it everything that was typed is read and gone. Where the group leader cannot be
  # traced, because it is on another node or somebody else traces it, the line is completed by the
  # user's own Enter.

  @enforce_keys [:keeper, :monitor, :ended_by]
  defstruct @enforce_keys

  @type t :: %__MODULE__{keeper: pid(), monitor: reference(), ended_by: :any_key | :enter}

  @enter "\e[?1049h\e[?25l\e[2J"
  @leave "\e[?25h\e[?1049l"

  # A key that is more than one character, such as an arrow, may come in more than one message.
  @key_ms 20
  @most_messages 50
  # How long a group leader may take to answer.
  @patience_ms 2_000

  @doc "Takes the terminal of the group leader, `:none` if there is none with screen and keyboard."
  @spec open() :: {:ok, t()} | :none
  def open do
    if ansi?() and match?({:ok, _size}, measured()), do: take(), else: :none
  end

  @doc "Columns and rows that the terminal has now."
  @spec size() :: {columns :: pos_integer(), rows :: pos_integer()}
  def size do
    case measured() do
      {:ok, size} -> size
      :error -> {80, 24}
    end
  end

  @doc "Puts lines where the last ones stood, without a moment in which the screen is empty."
  @spec draw([String.t()]) :: :ok
  def draw(lines) do
    IO.write(["\e[H", Enum.intersperse(Enum.map(lines, &[&1, "\e[K"]), "\r\n"), "\e[J"])
  end

  @doc "Waits for a key, or until the terminal is gone."
  @spec await_key(t(), timeout :: non_neg_integer()) :: :ended | :timeout
  def await_key(%__MODULE__{keeper: keeper, monitor: monitor}, timeout) do
    receive do
      {^keeper, :key} ->
        :ended

      {:DOWN, ^monitor, :process, ^keeper, _reason} = down ->
        # Put back for `close/1`.
        send(self(), down)
        :ended
    after
      timeout -> :timeout
    end
  end

  @doc "Gives the terminal back as it was, with nothing of what was typed left to be read."
  @spec close(t()) :: :ok
  def close(%__MODULE__{keeper: keeper, monitor: monitor}) do
    send(keeper, {self(), :close})

    receive do
      {:DOWN, ^monitor, :process, ^keeper, _reason} -> :ok
    end

    receive do
      {^keeper, :key} -> :ok
    after
      0 -> :ok
    end
  end

  # The setting is about the terminal of this node. A remote shell is on another one, and line
  # editing, which the shell that answers there has, needs the sequences as well.
  defp ansi?, do: IO.ANSI.enabled?() or node(Process.group_leader()) != node()

  defp measured do
    with {:ok, columns} <- :io.columns(),
         {:ok, rows} <- :io.rows() do
      {:ok, {columns, rows}}
    else
      {:error, _no_terminal} -> :error
    end
  end

  defp take do
    owner = self()
    {keeper, monitor} = spawn_monitor(fn -> keep(owner, Process.group_leader()) end)

    receive do
      {^keeper, :open, ended_by} ->
        {:ok, %__MODULE__{keeper: keeper, monitor: monitor, ended_by: ended_by}}

      {:DOWN, ^monitor, :process, ^keeper, _no_keyboard} ->
        :none
    end
  end

  # From here on it is the keeper that runs.

  defp keep(owner, leader) do
    watched = %{owner: Process.monitor(owner), leader: Process.monitor(leader)}

    with {:ok, driver} <- driver(leader) do
      state = %{owner: owner, leader: leader, driver: driver, watched: watched, read: make_ref()}
      ended_by = if trace?(leader), do: :any_key, else: :enter
      write(state, @enter)
      send(leader, {:io_request, self(), state.read, {:get_password, :unicode}})
      send(owner, {self(), :open, ended_by})
      hold(state)
    end
  end

  defp driver(leader) do
    send(leader, {:driver_id, self()})

    receive do
      {^leader, :driver_id, driver} -> {:ok, driver}
    after
      @patience_ms -> :no_keyboard
    end
  end

  # The flag goes with this process, its tracer, at the latest. The VM logs an error if the group
  # leader has another tracer already, therefore it is asked first.
  defp trace?(leader) do
    :erlang.trace_info(leader, :tracer) == {:tracer, []} and
      :erlang.trace(leader, true, [:receive]) == 1
  rescue
    _on_another_node_or_just_traced in ArgumentError -> false
  end

  defp hold(%{leader: leader, driver: driver, read: read, watched: watched} = state) do
    receive do
      {:trace, ^leader, :receive, {^driver, {:data, chars}}} ->
        complete(state, chars, @most_messages)
        ended(state)

      {:trace, ^leader, :receive, _no_key} ->
        hold(state)

      {:io_reply, ^read, _line} ->
        ended(state)

      {owner, :close} when owner == state.owner ->
        enter(state)
        write(state, @leave)

      {:DOWN, monitor, _, _, _} when monitor == watched.owner ->
        enter(state)
        write(state, @leave)

      {:DOWN, monitor, _, _, _} when monitor == watched.leader ->
        leave_without_leader(state)
    end
  end

  # Until the line is read or nothing more comes of this key. An Enter among the characters
  # completes the line, and one more would be read by the shell.
  defp complete(state, _chars, 0), do: enter(state)

  defp complete(%{leader: leader, driver: driver, read: read} = state, chars, most) do
    enter? = chars |> IO.chardata_to_string() |> String.contains?("\r")

    receive do
      {:io_reply, ^read, _line} ->
        :ok

      {:trace, ^leader, :receive, {^driver, {:data, chars}}} ->
        complete(state, chars, most - 1)

      {:DOWN, monitor, _, _, _} when monitor == state.watched.leader ->
        leave_without_leader(state)
    after
      if(enter?, do: @patience_ms, else: @key_ms) -> enter(state)
    end
  end

  defp enter(%{leader: leader, driver: driver, read: read} = state) do
    send(leader, {driver, {:data, [?\r]}})

    receive do
      {:io_reply, ^read, _line} ->
        :ok

      {:DOWN, monitor, _, _, _} when monitor == state.watched.leader ->
        leave_without_leader(state)
    after
      @patience_ms -> :ok
    end
  end

  defp ended(%{owner: owner, watched: watched} = state) do
    send(owner, {self(), :key})

    receive do
      {^owner, :close} -> write(state, @leave)
      {:DOWN, monitor, _, _, _} when monitor == watched.owner -> write(state, @leave)
      {:DOWN, monitor, _, _, _} when monitor == watched.leader -> leave_without_leader(state)
    end
  end

  defp write(%{leader: leader, watched: watched} = state, text) do
    request = make_ref()
    send(leader, {:io_request, self(), request, {:put_chars, :unicode, text}})

    receive do
      {:io_reply, ^request, _reply} -> :ok
      {:DOWN, monitor, _, _, _} when monitor == watched.leader -> leave_without_leader(state)
    end
  end

  # The shell was killed, as with Ctrl-G. Its terminal is still that of this node's other shells.
  defp leave_without_leader(%{driver: driver}) do
    if driver == Process.whereis(:user_drv), do: IO.write(:user, @leave)
    exit(:normal)
  end
end
