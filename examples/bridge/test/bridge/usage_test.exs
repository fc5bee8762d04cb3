defmodule Bridge.UsageTest do
  use ExUnit.Case, async: true

  alias Bridge.{Audit, Tools, Usage}

  defp kind(uses, never \\ []) do
    %{most_used: for({name, count} <- uses, do: %{name: name, count: count}), never_used: never}
  end

  defp report do
    %{
      classes: kind([{"Corpus", 2}, {"Probe", 0}], Usage.classes() -- ["Corpus"]),
      methods: kind(for {name, n} <- Enum.with_index(~w(A.a B.b C.c D.d E.e)), do: {name, 9 - n}),
      tools: kind([{"stem", 3}], Tools.names() -- ["stem"])
    }
  end

  @used %{{:used_class, "Corpus"} => {2, 0}, {:used_tool, "stem"} => {3, 0}}

  test "the declared classes are those of the Python workers" do
    folder = Application.app_dir(:bridge, "priv/python")
    program = "import worker; print(*sorted(worker.CLASSES))"
    {names, 0} = System.cmd("python3", ["-B", "-c", program], cd: folder)

    assert String.split(names) == Usage.classes()
  end

  test "a use is one whether it failed or not" do
    facts = %{
      {:instance, "Corpus"} => {2, 1},
      {:operation, {"size", "Corpus"}} => {5, 5},
      {:tool, "stem"} => {3, 0},
      {:session, :created} => {9, 0}
    }

    assert Usage.own_facts(facts) == %{
             {:used_class, "Corpus"} => {2, 0},
             {:used_method, "Corpus.size"} => {5, 0},
             {:used_tool, "stem"} => {3, 0}
           }
  end

  test "a count that differs is a sentence" do
    reported = Usage.facts(report())
    own = %{reported | {:used_tool, "stem"} => {4, 0}}

    assert Audit.disagreements(own, reported) ==
             ["used tool stem: the demo counted 4, the report says 3"]
  end

  test "what is never used is what was declared and not used" do
    assert Usage.never_used_disagreements(report(), @used) == []

    used = Map.put(@used, {:used_tool, "lookup"}, {1, 0})

    assert ["tools never used are to_integer, " <> _] =
             Usage.never_used_disagreements(report(), used)
  end

  test "the section has the most used of each kind, and what is never used" do
    assert Usage.section(report()) == """
           Most used
             classes  Corpus 2; never Advisor, Compressor, Differ, Ledger, Probe, Saboteur, SqliteIndex, Summarizer, Tokenizer
             methods  A.a 9, B.b 8, C.c 7, D.d 6 and 1 more
             tools    stem 3; never lookup, to_integer, method_performance, method_errors, usage, worker_pool\
           """
  end
end
