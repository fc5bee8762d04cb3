defmodule DSPexTelemetry.Native.Core.ReferenceClassTest do
  use ExUnit.Case, async: true

  import DSPexTelemetry.TestInstance, only: [label: 1, start!: 0, start!: 1]

  setup do
    %{method: label("method"), ref: label("ref")}
  end

  test "a call has the class that its reference was created with", context do
    instance = start!()
    create(context.ref, "Index")
    call(context.method, %{ref: context.ref})
    call(context.method, %{ref: context.ref})
    assert classes(instance, context) == %{"Index" => 2}
  end

  test "start and exception events have the class of the reference too", context do
    instance = start!()
    create(context.ref, "Index")
    metadata = %{method: context.method, ref: context.ref}

    :telemetry.execute(
      [:dspex, :bridge, :call_method, :start],
      %{},
      Map.put(metadata, :args_size, 9)
    )

    exception = Map.put(metadata, :kind, :error)
    :telemetry.execute([:dspex, :bridge, :call_method, :exception], %{duration: 1}, exception)

    assert classes(instance, context) == %{"Index" => 1}

    labels = %{method: context.method, python_class: "Index"}
    event = [:dspex, :bridge, :call_method, :start]
    assert {:ok, %{v2: _}} = DSPexTelemetry.histogram(event, labels, instance: instance)
  end

  test "the class in the metadata wins over the reference", context do
    instance = start!()
    create(context.ref, "Index")
    call(context.method, %{ref: context.ref, python_class: "Other"})
    call(context.method, %{ref: context.ref, python_class: nil})
    call(context.method, %{ref: context.ref})
    assert classes(instance, context) == %{"Other" => 1, "Index" => 2}
  end

  test "the class in the metadata suffices", context do
    instance = start!()
    call(context.method, %{python_class: "Index"})
    call(context.method, %{python_class: "Index", ref: make_ref()})
    assert classes(instance, context) == %{"Index" => 2}
  end

  test "the class is unknown without reference, and for one that was never seen", context do
    instance = start!()
    call(context.method, %{})
    call(context.method, %{ref: nil})
    call(context.method, %{ref: context.ref})
    assert classes(instance, context) == %{"unknown" => 3}
  end

  test "a reference that is bound later has its class from then on", context do
    instance = start!()
    call(context.method, %{ref: context.ref})
    create(context.ref, "Index")
    call(context.method, %{ref: context.ref})
    call(context.method, %{ref: context.ref})
    assert classes(instance, context) == %{"unknown" => 1, "Index" => 2}
  end

  test "a reference that is bound again has its new class from then on, in every process",
       context do
    instance = start!()

    for class <- ["First", "Second", "First", "Third"] do
      create(context.ref, class)
      call(context.method, %{ref: context.ref})

      # Other processes run on other schedulers, which have caches of their own.
      for _ <- 1..4 do
        Task.await(Task.async(fn -> call(context.method, %{ref: context.ref}) end))
      end
    end

    assert classes(instance, context) == %{"First" => 10, "Second" => 5, "Third" => 5}
  end

  test "references of one class share the series", context do
    instance = start!()

    for number <- 1..50 do
      ref = "#{context.ref}-#{number}"
      create(ref, "Index")
      call(context.method, %{ref: ref})
    end

    assert classes(instance, context) == %{"Index" => 50}
  end

  test "a reference that reads like a class is not mistaken for it", context do
    instance = start!()
    create(context.ref, "Index")
    call(context.method, %{python_class: context.ref})
    call(context.method, %{ref: context.ref})
    call(context.method, %{python_class: context.ref})
    assert classes(instance, context) == %{context.ref => 2, "Index" => 1}
  end

  test "references are text in every form that labels are", context do
    instance = start!()
    number = System.unique_integer([:positive])
    long = String.duplicate("é", 200) <> context.ref
    invalid = context.ref <> <<0xFF>>

    for ref <- [number, String.to_atom(context.ref), invalid, long] do
      create(ref, "Index")
      call(context.method, %{ref: ref})
    end

    call(context.method, %{ref: Integer.to_string(number)})
    call(context.method, %{ref: context.ref})
    call(context.method, %{ref: context.ref <> "\uFFFD"})
    # What differs only behind the cut is the same.
    call(context.method, %{ref: String.duplicate("é", 200) <> "other"})
    assert classes(instance, context) == %{"Index" => 8}
  end

  test "an instance that could not be created binds its reference if it has one", context do
    instance = start!()
    metadata = %{python_class: "Index", success: false, ref: context.ref}
    :telemetry.execute([:dspex, :bridge, :create_instance, :stop], %{duration: 1}, metadata)
    call(context.method, %{ref: context.ref})
    assert classes(instance, context) == %{"Index" => 1}
  end

  test "classes stay known over a reset", context do
    instance = start!()
    create(context.ref, "Index")
    :ok = DSPexTelemetry.reset(instance: instance)
    call(context.method, %{ref: context.ref})
    assert classes(instance, context) == %{"Index" => 1}
  end

  test "with a limit of 0 no class is remembered", context do
    instance = start!(ref_limit: 0)
    create(context.ref, "Index")
    call(context.method, %{ref: context.ref})
    assert classes(instance, context) == %{"unknown" => 1}
    assert DSPexTelemetry.info(instance: instance).refs == 0
  end

  defp create(ref, class) do
    metadata = %{python_class: class, success: true, ref: ref}
    :telemetry.execute([:dspex, :bridge, :create_instance, :stop], %{duration: 1}, metadata)
  end

  defp call(method, metadata) do
    metadata = Map.merge(%{method: method, success: true}, metadata)
    :telemetry.execute([:dspex, :bridge, :call_method, :stop], %{duration: 1}, metadata)
  end

  defp classes(instance, %{method: method}) do
    for %{method: ^method} = row <- DSPexTelemetry.report(instance: instance).operations,
        into: %{},
        do: {row.python_class, row.count}
  end
end
