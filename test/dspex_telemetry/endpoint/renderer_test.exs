defmodule DSPexTelemetry.Endpoint.RendererTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance

  alias DSPexTelemetry.Endpoint.Renderer
  alias DSPexTelemetry.Instance.Lookup

  # Renderings tell the test of themselves and end when it says so.
  setup do
    test = self()
    name = unique_name()

    render = fn what ->
      send(test, {:rendering, what, self()})

      receive do
        {:finish, text} -> {:ok, text}
      end
    end

    start_supervised!({Renderer, {name, render}})
    %{name: name, renderer: Registry.whereis_name({Lookup.registry(), {:renderer, name}})}
  end

  defp ask(name, what), do: Task.async(fn -> Renderer.render(name, what, 20_000) end)

  defp rendering(what) do
    assert_receive {:rendering, ^what, pid}, 10_000
    pid
  end

  defp two_running(name),
    do: for(what <- [:a, :b], task = ask(name, what), do: {task, rendering(what)})

  defp await_waiting(renderer, what, clients) do
    await("#{clients} clients to wait for #{inspect(what)}", fn ->
      waiting(renderer, what) == clients
    end)
  end

  defp waiting(renderer, what) do
    with {^what, askers} <- List.keyfind(:sys.get_state(renderer).waiting, what, 0),
         do: length(askers),
         else: (nil -> 0)
  end

  @scrape {{:scrape, :prometheus}, :identity}
  @other_scrape {{:scrape, :openmetrics}, :gzip}

  test "two renderings run at a time, the others in their turn", %{name: name, renderer: renderer} do
    [{a, rendering_a}, {b, rendering_b}] = two_running(name)
    c = ask(name, :c)
    await_waiting(renderer, :c, 1)
    d = ask(name, :d)
    await_waiting(renderer, :d, 1)
    refute_received {:rendering, _what, _pid}

    send(rendering_b, {:finish, "B"})
    rendering_c = rendering(:c)
    refute_received {:rendering, :d, _pid}
    send(rendering_a, {:finish, "A"})
    send(rendering(:d), {:finish, "D"})
    send(rendering_c, {:finish, "C"})
    assert Enum.map([a, b, c, d], &Task.await/1) == Enum.map(~w(A B C D), &{:ok, &1})
  end

  test "clients that wait for the same share the next rendering, not one that runs already", %{
    name: name,
    renderer: renderer
  } do
    [{first, first_rendering}, {other, other_rendering}] = two_running(name)
    late = for _ <- 1..50, do: ask(name, :a)
    await_waiting(renderer, :a, 50)

    send(first_rendering, {:finish, "early"})
    assert Task.await(first) == {:ok, "early"}
    send(rendering(:a), {:finish, "late"})
    assert Enum.uniq(Task.await_many(late)) == [{:ok, "late"}]
    send(other_rendering, {:finish, "B"})
    assert Task.await(other) == {:ok, "B"}
    refute_received {:rendering, _what, _pid}

    assert %{waiting: [], running: running} = :sys.get_state(renderer)
    assert running == %{}
  end

  test "one that is killed fails for those who wait for it, and no other", %{
    name: name,
    renderer: renderer
  } do
    [{a, rendering_a}, {b, rendering_b}] = two_running(name)
    c = ask(name, :c)
    await_waiting(renderer, :c, 1)

    kill(rendering_a)
    assert Task.await(a) == {:error, :failed}
    send(rendering_b, {:finish, "B"})
    send(rendering(:c), {:finish, "C"})
    assert {Task.await(b), Task.await(c)} == {{:ok, "B"}, {:ok, "C"}}
  end

  test "what its clients no longer wait for is not rendered", %{name: name, renderer: renderer} do
    [{a, rendering_a}, {b, rendering_b}] = two_running(name)
    assert Renderer.render(name, :impatient, 1) == {:error, :busy}
    ended = ask(name, :ended)
    await_waiting(renderer, :ended, 1)
    shared = for _ <- 1..2, do: ask(name, :shared)
    await_waiting(renderer, :shared, 2)
    last = ask(name, :last)
    await_waiting(renderer, :last, 1)

    for %{pid: pid} <- [ended, hd(shared)] do
      Process.unlink(pid)
      kill(pid)
    end

    await_waiting(renderer, :ended, 0)
    await_waiting(renderer, :shared, 1)
    send(rendering_a, {:finish, "A"})
    send(rendering_b, {:finish, "B"})
    send(rendering(:shared), {:finish, "shared"})
    send(rendering(:last), {:finish, "last"})

    assert Enum.map([a, b, List.last(shared), last], &Task.await/1) ==
             Enum.map(~w(A B shared last), &{:ok, &1})

    for what <- [:impatient, :ended], do: refute_received({:rendering, ^what, _pid})
    assert %{waiting: []} = :sys.get_state(renderer)
  end

  test "a scrape comes before reports, and scrapes leave them a place", %{
    name: name,
    renderer: renderer
  } do
    [{_a, rendering_a}, {_b, rendering_b}] = two_running(name)
    for what <- [:c, :d], do: {ask(name, what), await_waiting(renderer, what, 1)}

    for what <- [@scrape, @other_scrape],
        do: {ask(name, what), await_waiting(renderer, what, 1)}

    send(rendering_a, {:finish, "A"})
    scrape = rendering(@scrape)
    refute_received {:rendering, _what, _pid}
    send(rendering_b, {:finish, "B"})
    report = rendering(:c)
    refute_received {:rendering, _what, _pid}
    send(scrape, {:finish, "S"})
    scrape = rendering(@other_scrape)
    send(report, {:finish, "C"})
    report = rendering(:d)
    for pid <- [scrape, report], do: send(pid, {:finish, ""})
  end

  test "only so many different reports wait, while a scrape always may", %{
    name: name,
    renderer: renderer
  } do
    running = two_running(name)

    for window <- 1..32 do
      ask(name, {:report, window})
      await_waiting(renderer, {:report, window}, 1)
    end

    assert Renderer.render(name, {:report, 33}, 20_000) == {:error, :busy}
    ask(name, {:report, 32})
    await_waiting(renderer, {:report, 32}, 2)
    ask(name, @scrape)
    await_waiting(renderer, @scrape, 1)
    for {_task, rendering} <- running, do: send(rendering, {:finish, ""})
  end

  test "a client waits only so long, and never for a renderer that is not there", %{name: name} do
    assert Renderer.render(name, :a, 1) == {:error, :busy}
    send(rendering(:a), {:finish, "unheard"})
    assert Renderer.render(NoSuch.Instance, :a, 20_000) == {:error, :not_running}
  end
end
