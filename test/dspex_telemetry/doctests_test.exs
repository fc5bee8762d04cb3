defmodule DSPexTelemetry.DoctestsTest do
  # Examples of modules whose other tests are in several files.
  use ExUnit.Case, async: true

  doctest DSPexTelemetry.Auth
  doctest DSPexTelemetry.Catalogue
  doctest DSPexTelemetry.Endpoint
  doctest DSPexTelemetry.Reporter
end
