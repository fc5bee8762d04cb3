defmodule Bridge.RecordingTest do
  use ExUnit.Case

  import ExUnit.CaptureIO

  alias Bridge.Recording

  doctest Bridge.Recording

  @recordings Path.expand("../../../../test/fixtures/recorded_events", __DIR__)

  defp file(text) do
    path = Path.join(System.tmp_dir!(), "recording-#{System.unique_integer([:positive])}.txt")
    on_exit(fn -> File.rm(path) end)
    File.write!(path, text)
    path
  end

  for name <- ["snakepit.exs.txt", "dspex.exs.txt"] do
    describe name do
      @path Path.join(@recordings, name)

      test "has in each line the event that Elixir itself makes of it" do
        lines = @path |> File.read!() |> String.split("\n", trim: true)
        events = @path |> Recording.stream!() |> Enum.to_list()
        assert length(events) == length(lines)

        for {line, event} <- Enum.zip(lines, events) do
          {evaluated, []} = Code.eval_string(line)
          assert event === evaluated
        end
      end

      test "has as many events of each name as its text" do
        of_text =
          ~r/^\{\d+, \[([^\]]+)\], /m
          |> Regex.scan(File.read!(@path), capture: :all_but_first)
          |> Enum.frequencies_by(&hd/1)

        of_events =
          @path
          |> Recording.stream!()
          |> Enum.frequencies_by(fn {_, event, _, _} -> Enum.map_join(event, ", ", &inspect/1) end)

        assert map_size(of_text) > 20
        assert of_events == of_text
      end

      test "is checked as a whole" do
        text = File.read!(@path)
        times = for [time] <- Regex.scan(~r/^\{(\d+),/m, text, capture: :all_but_first), do: time

        assert Recording.check(@path) ==
                 {:ok,
                  %{
                    path: @path,
                    events: length(times),
                    duration_us: String.to_integer(List.last(times))
                  }}
      end
    end
  end

  test "a struct stays a map, whose module need not exist" do
    line = ~S"""
    {0, [:a], %{}, %{error: %{__struct__: Gone.Error, message: "boom", pid: :"#pid"}}}
    """

    assert {:ok, {0, [:a], %{}, %{error: error}}} = Recording.parse(line)
    assert error == %{__struct__: Gone.Error, message: "boom", pid: :"#pid"}
    refute Code.ensure_loaded?(Gone.Error)
  end

  test "numbers below zero, floats, tuples, lists and bytes are literals" do
    line =
      ~S'{0, [:a], %{"n" => -5, x: -0.5}, %{a: {}, b: {1}, c: {1, 2}, d: [a: [1]], e: <<0, 255>>}}'

    assert Recording.parse(line) ===
             {:ok,
              {0, [:a], %{"n" => -5, x: -0.5},
               %{a: {}, b: {1}, c: {1, 2}, d: [a: [1]], e: <<0, 255>>}}}
  end

  test "quotes that are not needed are no matter for the terminal" do
    line = ~S'{0, [:"a"], %{"b": 1}, %{}}'

    assert capture_io(:stderr, fn -> {:ok, {0, [:a], %{b: 1}, %{}}} = Recording.parse(line) end) ==
             ""
  end

  test "code is refused, named, and does not run" do
    for code <- [
          ~S'raise("ran")',
          ~S'System.halt(1)',
          ~S'exit(:ran)',
          ~S'"#{exit(:ran)}"',
          ~S'fn -> 1 end',
          ~S'&exit/1',
          ~S'variable',
          ~S'%Gone.Error{}',
          ~S'%{%{} | a: 1}',
          ~S'1 + 1',
          ~S'[1 | 2]',
          ~S'<<1::size(3)>>',
          ~S'<<256>>',
          ~S'~D[2026-12-01]',
          ~S'__MODULE__',
          ~S'__MODULE__.Inner',
          String.duplicate("Long.", 60) <> "Name"
        ] do
      assert {:error, problem} = Recording.parse("{0, [:a], %{}, %{field: #{code}}}")
      assert problem =~ ~r/^.+ is code, and only literals are read$/
      assert {:error, ^problem} = Recording.parse("{0, [:a], %{}, %{field: [{1, 2, #{code}}]}}")
    end
  end

  test "an atom made of code is refused too" do
    assert {:error, problem} = Recording.parse(~S':"a#{exit(:ran)}"')
    assert problem =~ "is code, and only literals are read"
  end

  test "a term of another shape is refused with what it must be" do
    for {line, problem} <- [
          {"%{a: 1}", "must be {microseconds, event, measurements, metadata}, not %{a: 1}"},
          {"{0, [:a], %{}}",
           "must be {microseconds, event, measurements, metadata}, not {0, [:a], %{}}"},
          {"1; 2", "1 2 is code, and only literals are read"},
          {"{-1, [:a], %{}, %{}}", "the time must be a number of microseconds from 0 on, not -1"},
          {"{1.0, [:a], %{}, %{}}",
           "the time must be a number of microseconds from 0 on, not 1.0"},
          {"{0, [], %{}, %{}}", "the event must be a list of atoms with at least one, not []"},
          {"{0, [\"a\"], %{}, %{}}",
           "the event must be a list of atoms with at least one, not [\"a\"]"},
          {"{0, [:a], [b: 1], %{}}", "the measurements must be a map, not [b: 1]"},
          {"{0, [:a], %{}, nil}", "the metadata must be a map, not nil"},
          {<<"{0, ", 255>>, "is not UTF-8"}
        ] do
      assert Recording.parse(line) == {:error, problem}
    end
  end

  test "what is shown of a line is short" do
    assert {:error, problem} = Recording.parse(inspect(String.duplicate("x", 1_000)))
    assert String.length(problem) < 200
    assert {:error, problem} = Recording.parse("{1.0e" <> String.duplicate("9", 1_000))
    assert String.length(problem) < 200
  end

  test "a file is read until the line that is wrong, which the error names" do
    path = file("# a comment\n\n{0, [:a], %{}, %{}}\n{5, [:b], %{}, %{}\n")

    problem = "#{path}:4: cannot be read: missing terminator: } (for \"{\" starting at line 4)"
    assert {:error, message} = Recording.check(path)
    assert String.starts_with?(message, problem)

    assert Enum.take(Recording.stream!(path), 1) == [{0, [:a], %{}, %{}}]
    error = assert_raise Recording.Error, fn -> Enum.to_list(Recording.stream!(path)) end
    assert Exception.message(error) == message
  end

  test "a recording that starts late or has times out of order lasts from the first event to the last" do
    path = file("{70, [:a], %{}, %{}}\n{95, [:b], %{}, %{}}\n{90, [:c], %{}, %{}}")
    assert Recording.check(path) == {:ok, %{path: path, events: 3, duration_us: 25}}
  end

  test "a file without events, a folder and a file that is not there are errors" do
    empty = file("")
    assert Recording.check(empty) == {:error, "#{empty} has no events"}
    comment = file("# nothing yet\n")
    assert Recording.check(comment) == {:error, "#{comment} has no events"}

    assert Recording.check(@recordings) ==
             {:error, "#{@recordings} must be a regular file, and is a directory"}

    assert Recording.check("/no/such/file") ==
             {:error, "cannot read /no/such/file: no such file or directory"}
  end

  test "a file cannot fill the VM's table of atoms" do
    names = for n <- 1..11_000, do: ":recording_test_#{System.unique_integer([:positive])}_#{n}"

    lines =
      for chunk <- Enum.chunk_every(names, 100), do: "{0, [#{Enum.join(chunk, ", ")}], %{}, %{}}"

    path = file(Enum.join(lines, "\n"))

    before = :erlang.system_info(:atom_count)
    assert {:error, problem} = Recording.check(path)
    assert problem =~ ~r/:\d+: cannot be read: a recording may have at most 10000 new atoms/
    assert :erlang.system_info(:atom_count) - before <= 10_000
  end
end
