defmodule DSPexTelemetry.Native.NIF.HostileTermsTest do
  # Terms that no caller of ours makes, into every function of the library. What follows a term down the stack ends the
  # VM where the term is too deep, so all this runs in a VM of its own.
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestProject

  @moduletag timeout: 120_000

  @setup """
  alias DSPexTelemetry.Native
  alias DSPexTelemetry.Instance.Lookup
  {:ok, _started} = Application.ensure_all_started(:dspex_telemetry)
  Logger.configure(level: :none)
  {:ok, _pid} = DSPexTelemetry.start_link(name: Hostile, attach: false, cache: [])
  native = Lookup.fetch!(Hostile).native
  now = {1, 1}

  deep = fn wrap -> Enum.reduce(1..10_000, [], fn _, inner -> wrap.(inner) end) end
  deep_terms = [deep.(&[&1]), deep.(&[1, &1]), deep.(&{:a, &1}), deep.(&%{a: &1})]
  improper = [[1 | 2], [[] | %{}], [{"n", :ok, ""} | :end], ["a" | "b"]]
  other = [{}, {1, 2, 3}, %{1 => 2}, <<1::3>>, <<255>>, self(), make_ref(), fn -> :ok end, 2 ** 70, nil, []]
  # How a call ends: what it returns, or what it raises.
  ends = fn fun ->
    try do
      {:returned, fun.()}
    rescue
      error -> {:raised, error}
    end
  end
  _ = {native, now, deep_terms, improper, other, ends}
  """

  test "a definition that is too deep is refused with a sentence, wherever one is taken" do
    output =
      evaluate!(
        @setup <>
          """
          for deep <- deep_terms,
              {name, call} <- [
                start: &Native.start/1,
                scrape: &Native.scrape(native, &1),
                page_json: &Native.page_json(native, &1, :since_start, now),
                otlp_export: &Native.otlp_export(native, &1, now),
                cluster_report: &Native.cluster_report([{"n", &1, nil}], {1, 1}, now),
                cluster_report_json: &Native.cluster_report_json([{"n", &1, nil}], {1, 1}, now),
                cluster_errors: &Native.cluster_errors([{"n", &1, nil}], {1, 1}, now),
                cluster_usage: &Native.cluster_usage([{"n", &1, nil}], {1, 1}, now, 1)
              ] do
            case ends.(fn -> call.(deep) end) do
              {:returned, {:error, message}} -> IO.puts("\#{name}: \#{message}")
              {:raised, %ErlangError{original: message}} -> IO.puts("\#{name}: \#{message}")
            end
          end
          """
      )

    lines = String.split(output, "\n", trim: true)
    assert length(lines) == 4 * 8

    for line <- lines,
        do: assert(line =~ ~r/^\w+: a definition may be nested 64 deep and is deeper$/)
  end

  test "what has no place in a definition is named" do
    output =
      evaluate!(
        @setup <>
          """
          for term <- [[1 | 2], {}, %{1 => 2}, <<255>>, 2 ** 70, self()] do
            {:error, message} = Native.start(%{events: term})
            IO.puts(message)
          end
          """
      )

    assert [
             "a list that does not end with [] can stand in no definition",
             "a tuple that is not {atom, term} can stand in no definition",
             "a map with a key that is no atom can stand in no definition",
             "a binary that is no UTF-8 can stand in no definition",
             "an integer of more than 64 bits can stand in no definition",
             "<" <> pid
           ] = String.split(output, "\n", trim: true)

    assert pid =~ "> can stand in no definition"
  end

  test "no function panics or ends the VM, whatever it is given" do
    output =
      evaluate!(
        @setup <>
          """
          for {name, arity} <- Native.__info__(:functions), name not in [:load, :stop],
              first <- [native, Hostile, 1, :hostile],
              term <- deep_terms ++ improper ++ other do
            first = if first == :hostile, do: term, else: first
            arguments = Enum.take([first | List.duplicate(term, arity)], arity)
            ends.(fn -> apply(Native, name, arguments) end)
          end

          # Right but for one thing.
          for improper <- improper do
            ends.(fn -> Native.put_workers(native, improper) end)
            ends.(fn -> Native.declare(native, :class, improper) end)
            ends.(fn -> Native.histogram(native, "x", improper) end)
            ends.(fn -> Native.keep_exemplar(1, improper, []) end)
            ends.(fn -> Native.keep_exemplar(1, [], improper) end)
            ends.(fn -> Native.cluster_report(improper, {1, 1}, now) end)
            ends.(fn -> Native.cluster_usage(improper, {1, 1}, now, 1) end)
          end

          IO.puts("alive, \#{Native.panics()} panics")
          """
      )

    # A panic is written to standard error, caught or not.
    assert output == "alive, 0 panics\n"
  end
end
