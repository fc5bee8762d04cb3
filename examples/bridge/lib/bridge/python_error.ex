defmodule Bridge.PythonError do
  @moduledoc """
  An exception that Python code raised: its type, its message and the last of its traceback.
  """

  @type t :: %__MODULE__{type: String.t(), message: String.t(), traceback: String.t()}

  defexception [:type, :message, :traceback]

  @impl true
  def message(error), do: "#{error.type}: #{error.message}"
end
