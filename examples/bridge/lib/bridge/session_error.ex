defmodule Bridge.SessionError do
  @moduledoc "No such session: it was never opened, or it has expired."

  @type t :: %__MODULE__{session_id: Bridge.Session.id() | nil}

  defexception [:session_id]

  @impl true
  def message(%{session_id: nil}), do: "the call was made without a session"
  def message(error), do: "session #{error.session_id} does not exist, or has expired"
end
