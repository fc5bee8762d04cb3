defmodule Bridge.Upcall do
  @moduledoc """
  Answers the questions that Python asks in the middle of a method call.

  A question is the frame as it came: `%{"kind" => "tool" | "set" | "get", "name" => name,
  "session" => id}` and `"args"` or `"value"`. The answer is a value, or a sentence that Python
  raises.
  """

  alias Bridge.{Session, SessionError, Tools}

  @type question :: %{String.t() => term()}
  @type answer :: {:ok, term()} | {:error, String.t()}

  @doc "Never raises: a tool that does must not take the worker's answer with it."
  @spec answer(question()) :: answer()
  def answer(%{"kind" => "tool", "name" => name, "args" => args, "session" => session}) do
    Tools.call(name, args, session: session, caller: :python)
  rescue
    exception -> {:error, Exception.message(exception)}
  end

  def answer(%{"kind" => kind, "session" => nil}) when kind in ["set", "get"] do
    {:error, Exception.message(%SessionError{session_id: nil})}
  end

  def answer(%{"kind" => "set", "name" => name, "value" => value, "session" => session}) do
    case Session.set(session, name, value) do
      :ok -> {:ok, nil}
      {:error, error} -> {:error, Exception.message(error)}
    end
  end

  def answer(%{"kind" => "get", "name" => name, "session" => session}) do
    case Session.get(session, name) do
      {:ok, value} -> {:ok, %{found: true, value: value}}
      :error -> {:ok, %{found: false}}
      {:error, error} -> {:error, Exception.message(error)}
    end
  end
end
