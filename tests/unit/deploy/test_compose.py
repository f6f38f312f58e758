"""deploy/compose against the compose specification's schema, the settings, the Dockerfile and the pair's profile."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest
from check_jsonschema.builtin_schemas import get_builtin_schema

from components.engines.alone import KEY_VARIABLE, read_arguments
from components.profiles.loader import load_pair
from components.profiles.schema import PairProfile, RemoteSource
from components.settings import Settings
from tests.unit.deploy.read import DEPLOY, PAIR, ROOT, SECRETS, check_app, compose, settings_named

APPS, ENGINES = ("app-1", "app-2"), ("engine-base", "engine-candidate")
IMAGE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = compose()["services"][name]
    return found


def remote_pair(tmp_path: Any) -> PairProfile:
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / f"{PAIR}.yaml").write_bytes((DEPLOY / f"{PAIR}.yaml").read_bytes())
    return load_pair(tmp_path, PAIR)


@pytest.mark.parametrize("name", ["compose.yaml", "gpu.yaml"])
def test_the_file_is_what_the_specification_accepts(name: str) -> None:
    schema = get_builtin_schema("vendor.compose-spec")
    jsonschema.Draft202012Validator(schema).validate(compose(name))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate({"services": {"app": {"imagine": "diptych"}}})


def test_the_gpus_are_for_services_that_there_are() -> None:
    assert set(compose("gpu.yaml")["services"]) <= set(compose()["services"])


@pytest.mark.parametrize("name", APPS)
def test_the_app_starts_with_what_it_is_given(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = service(name)
    monkeypatch.setenv("DIPTYCH_STATE_DIR", "/data/diptych")
    settings = check_app(app["command"], app["environment"], monkeypatch)
    assert settings.refusal() is None
    assert not settings.public
    assert settings.accounts
    assert (settings.pair, settings.port) == (PAIR, 7860)
    assert settings.database_url == "postgresql://diptych:secret@postgres:5432/diptych"
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in app["volumes"]}
    assert mounted[settings.shared_dir] == "shared"
    assert mounted["/data"] == name, "a state folder is one app's"
    assert mounted[f"/app/profiles/pairs/{PAIR}.yaml"] == f"../{PAIR}.yaml"
    assert app["expose"] == [str(settings.port)]


def test_both_apps_differ_in_their_state_folder_only() -> None:
    first, second = ({**service(name), "volumes": service(name)["volumes"][1:]} for name in APPS)
    assert first == second


def test_every_variable_is_a_setting() -> None:
    text = "".join((DEPLOY / "compose" / name).read_text(encoding="utf-8") for name in ("compose.yaml", "gpu.yaml"))
    assert settings_named(text) <= set(Settings.model_fields)


def test_the_folders_are_those_of_the_image() -> None:
    assert "DIPTYCH_STATE_DIR=/data/diptych" in IMAGE
    assert re.search(r"mkdir -p .*/data /shared .*chown user:user .*/data /shared", IMAGE)
    assert 'ENTRYPOINT ["tini", "--", "python", "app.py"]' in IMAGE
    arguments = compose()["x-image"]["build"]["args"]
    assert arguments == {"DEVICE": "${DEVICE:-cpu}"}
    assert "ARG DEVICE=" in IMAGE


def test_the_engines_are_those_of_the_pair(tmp_path: Any) -> None:
    served = {}
    for name in ENGINES:
        engine = service(name)
        assert engine["entrypoint"][-1] == "components.engines.alone"
        assert KEY_VARIABLE in engine["environment"]
        given = read_arguments(engine["command"])
        pair_id, _, model_id = given.engine.partition("/")
        assert load_pair(ROOT / "profiles", pair_id).model(model_id)
        assert engine["expose"] == [str(given.port)]
        served[f"http://{name}:{given.port}/v1"] = given.engine
    sources = [model.source for model in remote_pair(tmp_path).models]
    assert served == {source.url: source.served_model for source in sources if isinstance(source, RemoteSource)}
    assert {source.api_key_env for source in sources if isinstance(source, RemoteSource)} == {KEY_VARIABLE}


def test_the_pair_promises_what_its_models_are(tmp_path: Any) -> None:
    remote, own = remote_pair(tmp_path), load_pair(ROOT / "profiles", "embedded")
    for name in ("vision", "max_image_size", "max_images", "sampling"):
        assert getattr(remote, name) == getattr(own, name), name
    assert set(remote.examples) <= set(own.examples)
    for model in remote.models:
        same = own.model(model.id)
        assert (model.role, model.scheme, model.unquantized) == (same.role, same.scheme, same.unquantized)


def test_only_the_proxy_is_reached_from_outside() -> None:
    services = compose()["services"]
    assert [name for name, one in services.items() if "ports" in one] == ["proxy"]
    assert compose()["networks"]["inside"] == {"internal": True}
    for name in (*ENGINES, "postgres"):
        assert services[name]["networks"] == ["inside"]
    assert services["proxy"]["networks"] == ["outside"]
    assert services["proxy"]["environment"]["APPS"].split() == [f"{name}:7860" for name in APPS]


def test_no_secret_stands_in_the_files_and_none_is_optional() -> None:
    for name, one in compose()["services"].items():
        for variable, value in one.get("environment", {}).items():
            if variable in SECRETS - {"HF_TOKEN"}:
                assert value.startswith(f"${{{variable}:?"), name
    url = service("app-1")["environment"]["DIPTYCH_DATABASE_URL"]
    assert re.fullmatch(r"postgresql://diptych:\$\{POSTGRES_PASSWORD:\?[^}]+\}@postgres:5432/diptych", url)
    assert ".env" in (ROOT / ".gitignore").read_text().split()


def test_containers_have_no_more_rights_than_they_need() -> None:
    for name, one in compose()["services"].items():
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert not one.get("privileged"), name
        assert name == "postgres" or one["cap_drop"] == ["ALL"], name  # PostgreSQL's image gives up root itself
        assert ":" in one["image"] or "build" in one, f"{name}: a floating image"


def test_no_code_of_a_model_is_run() -> None:
    for path in sorted(DEPLOY.rglob("*")):
        if path.is_file():
            assert "trust" not in path.read_text(encoding="utf-8").replace("trusted_proxies", ""), path
