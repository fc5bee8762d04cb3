"""Holds a Grafana dashboard to the models of grafana-foundation-sdk.

The models read what they know and say nothing of the rest. So a dashboard is read by them and written again:
a field that is lost on the way is misspelt or does not exist. What they have read is then held to the types
that they declare, which they do not do themselves. Last, the same is done to copies of the dashboard with one
fault each, all of which have to be found.
"""

import copy
import enum
import json
import sys
import types
import typing

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.runtime import Runtime
from grafana_foundation_sdk.models import dashboard, table, timeseries

# Fields of an annotation that belong to the data source, for which the schema has no names.
PROMETHEUS_ANNOTATION = {"titleFormat": str, "textFormat": str, "tagKeys": str, "useValueForTime": bool}

# What an override sets: fields of FieldConfig, and as custom.… those that a type of panel adds.
CUSTOM = {"timeseries": timeseries.FieldConfig, "table": table.FieldConfig}

SDK = "grafana_foundation_sdk."


def problems(data):
    """Sentences about all that the schema does not allow."""
    found = []

    try:
        for problem in all_problems(copy.deepcopy(data)):
            found.append(problem)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        found.append(f"cannot be read further: {type(error).__name__} {error}")

    return found


def all_problems(data):
    yield from annotation_problems(data)

    read = dashboard.Dashboard.from_json(data)
    yield from lost("dashboard", data, written(read))
    yield from wrong_types("dashboard", read, dashboard.Dashboard)

    for panel in all_panels(data):
        yield from panel_problems(panel)


def written(model):
    return json.loads(JSONEncoder().encode(model))


def annotation_problems(data):
    for annotation in data["annotations"]["list"]:
        if annotation["datasource"]["type"] == "prometheus":
            for field, kind in PROMETHEUS_ANNOTATION.items():
                value = annotation.pop(field, kind())
                if type(value) is not kind:
                    yield f"annotation {annotation['name']}: {field} is {value!r}"


def all_panels(data):
    for panel in data["panels"]:
        yield from panel.get("panels", []) if panel["type"] == "row" else []
        yield panel


def panel_problems(panel):
    kind = panel["type"]
    name = f"panel {panel.get('title')!r}"

    if kind == "row":
        return

    if kind not in Runtime().panelcfg_variants:
        yield f"{name}: {kind!r} is no type of panel"

    for override in panel["fieldConfig"]["overrides"]:
        for setting in override["properties"]:
            yield from override_problems(name, kind, setting)


def override_problems(name, kind, setting):
    scope, _dot, field = setting["id"].rpartition(".")
    model = CUSTOM.get(kind) if scope == "custom" else dashboard.FieldConfig

    if model is None or scope not in ("", "custom"):
        yield f"{name}: nothing can override {setting['id']!r}"
        return

    data = {field: setting["value"]}
    read = model.from_json(data)
    yield from lost(f"{name}, override", data, written(read))
    yield from wrong_types(f"{name}, override", read, model)


def lost(path, before, after):
    """Where what was written differs from what was read; more may be written, which are defaults."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key in after:
                yield from lost(f"{path}.{key}", value, after[key])
            elif value is not None:
                yield f"{path}.{key} is not in the schema"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after)):
            yield from lost(f"{path}[{index}]", one, other)
    elif before != after:
        yield f"{path} is {before!r}, which the schema takes for {after!r}"


def wrong_types(path, value, hint):
    """Where a value is not of its declared type. A model is always looked into, whatever is declared."""
    if type(value).__module__.startswith(SDK) and not isinstance(value, enum.Enum):
        if isinstance(hint, type) and hint is not object and not isinstance(value, hint):
            yield f"{path} is a {type(value).__name__}, not a {hint.__name__}"
        for field, declared in typing.get_type_hints(type(value)).items():
            yield from wrong_types(f"{path}.{field}", getattr(value, field), declared)
    elif isinstance(value, dict) and getattr(hint, "__module__", "").startswith(SDK):
        # Some models keep as it came what they have a model for.
        read = hint.from_json(value)
        yield from lost(path, value, written(read))
        yield from wrong_types(path, read, hint)
    elif not fits(value, hint):
        yield f"{path} is {value!r}, not {getattr(hint, '__name__', hint)}"
    elif isinstance(value, list):
        inner = inner_type(hint, list, 0)
        for index, item in enumerate(value):
            yield from wrong_types(f"{path}[{index}]", item, inner)
    elif isinstance(value, dict):
        inner = inner_type(hint, dict, 1)
        for key, item in value.items():
            yield from wrong_types(f"{path}.{key}", item, inner)


def alternatives(hint):
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [one for part in typing.get_args(hint) for one in alternatives(part)]
    return [hint]


def inner_type(hint, container, argument):
    for one in alternatives(hint):
        if typing.get_origin(one) is container:
            return typing.get_args(one)[argument]
    return object


def fits(value, hint):
    return any(fits_one(value, one) for one in alternatives(hint))


def fits_one(value, hint):
    origin = typing.get_origin(hint)

    if hint in (object, typing.Any):
        return True
    if hint is float:
        return type(value) in (int, float)
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin is not None:
        return isinstance(value, origin)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return type(value) is not bool and value in [member.value for member in hint]
    if isinstance(value, enum.Enum):
        return isinstance(value, hint)
    return type(value) is hint


def at(data, *path):
    for key in path:
        data = data[key]
    return data


def first(data, kind):
    return next(panel for panel in all_panels(data) if panel["type"] == kind)


def faults():
    """One fault each, by what it is: a function that puts it into a dashboard."""

    def rename(place, old, new):
        def fault(data):
            where = place(data)
            where[new] = where.pop(old)

        return fault

    def put(place, key, value):
        def fault(data):
            place(data)[key] = value

        return fault

    top = lambda data: data
    graph = lambda data: first(data, "timeseries")
    heatmap = lambda data: first(data, "heatmap")
    target = lambda data: first(data, "timeseries")["targets"][0]
    custom = lambda data: at(first(data, "timeseries"), "fieldConfig", "defaults", "custom")
    variable = lambda data: data["templating"]["list"][1]
    annotation = lambda data: data["annotations"]["list"][1]
    override = lambda data: first(data, "table")["fieldConfig"]["overrides"][0]["properties"][0]

    return {
        "a misspelt field of the dashboard": rename(top, "schemaVersion", "schemaversion"),
        "a misspelt field of a panel": rename(graph, "gridPos", "gridpos"),
        "a misspelt field of a query": rename(target, "legendFormat", "legend"),
        "a misspelt option of a heatmap": rename(lambda d: heatmap(d)["options"], "yAxis", "yaxis"),
        "a misspelt setting of lines": rename(custom, "fillOpacity", "fillopacity"),
        "a misspelt field of a variable": rename(variable, "includeAll", "includeall"),
        "a misspelt field of an annotation": rename(annotation, "iconColor", "color"),
        "a misspelt field of a transformation": rename(lambda d: first(d, "table")["transformations"][0], "options", "opts"),
        "a misspelt override": put(override, "id", "units"),
        "text for a number": put(lambda d: graph(d)["gridPos"], "w", "12"),
        "a number for text": put(graph, "title", 12),
        "a number for a flag": put(target, "instant", 1),
        "a list for text": put(target, "expr", ["up"]),
        "an unknown format of a query": put(target, "format", "timeseries"),
        "an unknown way to draw": put(custom, "drawStyle", "dots"),
        "an unknown colour mode": put(lambda d: at(graph(d), "fieldConfig", "defaults", "color"), "mode", "rainbow"),
        "an unknown placement of a legend": put(lambda d: at(graph(d), "options", "legend"), "placement", "top"),
        "an unknown type of panel": put(graph, "type", "graph2"),
        "an unknown type of variable": put(variable, "type", "label"),
        "an unknown way to hide": put(variable, "hide", 9),
        "a wrong type in an override": put(override, "value", 7),
        "a wrong type of an annotation's text": put(annotation, "textFormat", 7),
        "thresholds without steps": put(lambda d: at(graph(d), "fieldConfig", "defaults"), "thresholds", {"steps": 1}),
    }


def main(path):
    plugins.register_default_plugins()

    with open(path, encoding="utf-8") as file:
        data = json.load(file)

    found = problems(data)
    panels = [panel for panel in all_panels(data) if panel["type"] != "row"]

    for problem in found:
        print(f"{path}: {problem}", file=sys.stderr)

    if found:
        return 1

    for fault, put_into in faults().items():
        faulty = copy.deepcopy(data)
        put_into(faulty)

        if not problems(faulty):
            print(f"{sys.argv[0]}: did not find {fault}", file=sys.stderr)
            return 1

    print(f"{path}: {len(panels)} panels as Grafana's schema has them; {len(faults())} faults would be found")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
