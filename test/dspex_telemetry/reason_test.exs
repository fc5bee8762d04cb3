defmodule DSPexTelemetry.ReasonTest do
  use ExUnit.Case, async: true

  alias DSPexTelemetry.Reason

  doctest DSPexTelemetry.Reason

  # A struct of a library that is not here. Snakepit's are known by the recordings.
  defp struct_of(module, fields), do: Map.put(Map.new(fields), :__struct__, module)

  defp python(type, message \\ "no"),
    do: struct_of(Snakepit.Error.PythonException, python_type: type, message: message)

  defp snakepit(category, details),
    do:
      struct_of(Snakepit.Error, category: category, message: "outer", details: details, grpc: nil)

  defp bridge(type),
    do: struct_of(Bridge.PythonError, __exception__: true, type: type, message: "no")

  test "the word for what systems give as reasons" do
    frame = {GenServer, :call, 3, []}

    for {reason, word} <- [
          {:timeout, :timeout},
          {{:grpc_server_exited, 137}, :grpc_server_exited},
          {{:external_process_died, :normal}, :external_process_died},
          {{:shutdown, {:shutdown, :ping_failed}}, :ping_failed},
          {{:shutdown, :left}, :left},
          {{:shutdown, "text"}, :shutdown},
          {:shutdown, :shutdown},
          {{:invalid_parameter, :json_encode_failed, "no protocol for a pid"},
           :invalid_parameter},
          {python("JSONDecodeError"), "JSONDecodeError"},
          {python("json.decoder.JSONDecodeError"), "json.decoder.JSONDecodeError"},
          {{:error, python("KeyError")}, "KeyError"},
          {snakepit(:python_error, %{reason: python("ValueError")}), "ValueError"},
          {snakepit(:worker, %{reason: {:grpc_server_exited, 134}}), :grpc_server_exited},
          {snakepit(:timeout, %{}), :timeout},
          {snakepit(:timeout, %{reason: "text"}), :timeout},
          {bridge("KeyError"), "KeyError"},
          {%ArgumentError{message: "no"}, "ArgumentError"},
          {{%ArgumentError{message: "no"}, [frame]}, "ArgumentError"},
          {{:timeout, {GenServer, :call, [self(), :request]}}, :timeout},
          {{{:nocatch, :ball}, [frame]}, :nocatch},
          {{:error, {:error, {:error, :deep}}}, :deep},
          {{:error, nil}, :error},
          {"text of any kind", :other},
          {{"text", 1}, :other},
          {[:a], :other},
          {true, :other},
          {nil, nil}
        ],
        do: assert({reason, Reason.class(reason)} == {reason, word})
  end

  test "a type that a Python class cannot have names the struct instead" do
    for type <- ["no type", "", "1st", "a\nb", String.duplicate("T", 129), 5, nil, <<255>>],
        do: assert({type, Reason.class(bridge(type))} == {type, "Bridge.PythonError"})

    assert Reason.class(bridge(String.duplicate("T", 128))) == String.duplicate("T", 128)
  end

  test "a reason that is wrapped without end is other" do
    endless = Enum.reduce(1..1_000, :core, fn _depth, inner -> {:error, inner} end)
    assert Reason.class(endless) == :error
    assert Reason.word(%{error: endless}) == :error
    deep = Enum.reduce(1..1_000, :core, fn _depth, inner -> {{inner, 1}, 1} end)
    assert Reason.class(deep) == :other
  end

  test "metadata say why in the order in which they are asked" do
    for {metadata, word, message} <- [
          {%{reason: :a, error: :b, error_type: "C"}, :a, ""},
          {%{error: :b, error_type: "C"}, :b, ""},
          {%{error_type: "C", error_message: "why"}, "C", "why"},
          {%{error_kind: :worker_timeout, error: "text"}, :worker_timeout, "text"},
          # A text says nothing for a label; the type does.
          {%{error: "text", error_type: "C"}, "C", "text"},
          {%{error: "text"}, :other, "text"},
          {%{error: {:error, :timeout}}, :timeout, ""},
          {%{error_message: "why"}, nil, "why"},
          {%{}, nil, ""}
        ] do
      assert {metadata, Reason.word(metadata)} == {metadata, word}
      assert {metadata, Reason.message(metadata)} == {metadata, message}
    end
  end

  test "messages have words and numbers, and never what else a term holds" do
    secret = "the caller's secret"

    for {error, message} <- [
          {{:grpc_server_exited, 137}, "grpc_server_exited 137"},
          {{:invalid_parameter, :json_encode_failed, secret},
           "invalid_parameter json_encode_failed"},
          {{:timeout, {GenServer, :call, [self(), secret]}}, ""},
          {{:badmatch, {:ok, secret}}, ""},
          {%{secret: secret}, ""},
          {[secret], ""},
          {{:exited, Bitwise.bsl(1, 100_000)}, "exited …"},
          {{:exited, Bridge.Worker}, "exited Bridge.Worker"},
          {snakepit(:python_error, %{reason: python("E", "inner")}), "inner"},
          {snakepit(:worker, %{args: secret}), "outer"}
        ],
        do: assert({error, Reason.message(%{error: error})} == {error, message})
  end

  test "a message is cut between characters, at 256 bytes" do
    for {text, size} <- [
          {String.duplicate("a", 256), 256},
          {String.duplicate("a", 257), 256},
          {String.duplicate("ä", 200), 256},
          {"a" <> String.duplicate("ä", 200), 255},
          {"ab" <> String.duplicate("😀", 200), 254}
        ] do
      message = Reason.message(%{error: text})
      assert byte_size(message) == size
      assert String.valid?(message) and String.starts_with?(text, message)
    end
  end

  test "the caller's code is to blame for what Python raised and for arguments that cannot be sent" do
    for error <- [
          python("ValueError"),
          {:error, python("ValueError")},
          bridge("KeyError"),
          snakepit(:python_error, %{}),
          snakepit(:validation, %{}),
          snakepit(:worker, %{reason: python("ValueError")}),
          {:invalid_parameter, :json_encode_failed, "x"},
          {:invalid_parameter, "x"}
        ],
        do: assert({error, Reason.callers_fault?(%{error: error})} == {error, true})

    for error <- [
          :timeout,
          {:grpc_server_exited, 137},
          snakepit(:timeout, %{}),
          snakepit(:grpc_error, %{reason: :unavailable}),
          %ArgumentError{message: "no"},
          {:shutdown, :ping_failed},
          "text"
        ],
        do: assert({error, Reason.callers_fault?(%{error: error})} == {error, false})

    assert Reason.callers_fault?(%{error_type: "ValueError"})
    for none <- [nil, [], "text", 5], do: assert(Reason.word(none) == nil)
  end
end
