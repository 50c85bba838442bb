"""Settings in YAML that anybody may have written: plain values, of no more than is in the file."""

from typing import Any

import yaml

MAX_ALIASES = 10


def safe_load(text: str) -> Any:
    """The value. Raises yaml.YAMLError, also for what is nested without end.

    Places that refer to others, nested, are more than memory holds for whoever prints them.
    """
    try:
        if text.count("*") > MAX_ALIASES:
            events = yaml.parse(text, yaml.SafeLoader)
            if sum(isinstance(event, yaml.AliasEvent) for event in events) > MAX_ALIASES:
                raise yaml.YAMLError(f"more than {MAX_ALIASES} references to other places")
        return yaml.safe_load(text)
    except RecursionError as error:
        raise yaml.YAMLError("nested too deep") from error
    except (ValueError, TypeError, OverflowError) as error:  # of a date of no calendar, and such
        raise yaml.YAMLError(str(error)) from error
