import Config

# Workers die on purpose here and say so at :info; the demo's own output tells the story.
config :logger, level: :warning
