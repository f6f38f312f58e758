"""Settings: one frozen object; an open door without sign-in is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from components.core.jobs import ClusterShare
from components.server import guard_rules, roll_of
from components.settings import Settings, default_state_dir


def test_loopback_needs_no_sign_in() -> None:
    assert Settings().refusal() is None


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::"])
def test_another_address_without_sign_in_is_refused_and_says_how(host: str) -> None:
    refusal = Settings(host=host).refusal()
    assert refusal is not None
    assert "DIPTYCH_USERS" in refusal
    assert "--public" in refusal
    assert Settings(host=host, users="ada:secret").refusal() is None
    assert Settings(host=host, public=True).refusal() is None


def test_the_environment_sets_what_the_command_line_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_PORT", "7999")
    monkeypatch.setenv("DIPTYCH_PAIR", "other")
    assert (Settings().port, Settings(pair="mine").pair) == (7999, "mine")


@pytest.mark.parametrize("port", [0, 65536, "none"])
def test_a_wrong_port_is_refused(port: object) -> None:
    with pytest.raises(ValidationError, match="port"):
        Settings(port=port)


def test_the_state_lies_outside_the_working_directory_and_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    folder = default_state_dir()
    assert not folder.is_relative_to(Path.cwd())
    assert not folder.is_relative_to("/tmp")


def test_accounts_are_read_from_pairs() -> None:
    assert Settings(users="ada:secret, bob:x:y").accounts == {"ada": "secret", "bob": "x:y"}


@pytest.mark.parametrize("users", ["ada", "ada:", ":secret", "ada:secret,bob"])
def test_half_an_account_is_refused_and_never_means_no_sign_in(users: str) -> None:
    with pytest.raises(ValidationError, match="name:password") as caught:
        Settings(users=users)
    assert "secret" not in caught.value.errors()[0]["msg"]


def test_hosts_are_loopback_unless_more_are_named() -> None:
    assert guard_rules(Settings()).hosts >= {"127.0.0.1", "localhost"}
    assert "lab.example" in guard_rules(Settings(allowed_hosts="lab.example")).hosts
    assert guard_rules(Settings(host="0.0.0.0", public=True)).hosts == frozenset()


@pytest.mark.parametrize("url", ["mysql://u:hidden@h/d", "sqlite:////x/y.db", "host=h password=hidden"])
def test_a_database_of_another_kind_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(database_url=url)
    (error,) = caught.value.errors(include_url=False)
    assert "postgresql://user:password@host/name" in error["msg"]
    assert "hidden" not in error["msg"]


def test_proxies_are_addresses_or_networks() -> None:
    assert Settings().trusted_proxies == ["127.0.0.1", "::1"]
    assert Settings(proxies="10.0.0.0/8, fd00::7").trusted_proxies[2:] == ["10.0.0.0/8", "fd00::7"]
    with pytest.raises(ValidationError, match="no address or network"):
        Settings(proxies="proxy.example")


def test_a_space_gives_sign_in_by_its_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"OAUTH_CLIENT_ID": "id", "OAUTH_CLIENT_SECRET": "secret", "SPACE_HOST": "me-diptych.hf.space,own.example"}
    for name, value in space.items():
        monkeypatch.setenv(name, value)
    found = Settings(public=True, owners="Boss, other")
    assert found.signs_in_elsewhere
    assert found.openid_provider_url == "https://huggingface.co"
    assert found.page_url == "https://me-diptych.hf.space"
    assert found.owner_names == ("Boss", "other")
    assert guard_rules(found).framed_by == ("https://huggingface.co",)
    monkeypatch.setenv("DIPTYCH_PAGE_URL", "http://127.0.0.1:7860/")
    assert Settings().page_url == "http://127.0.0.1:7860"


def test_half_an_app_of_hugging_face_is_refused_without_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAUTH_CLIENT_SECRET", "hidden")
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert "only of use together" in caught.value.errors()[0]["msg"]
    assert "hidden" not in caught.value.errors()[0]["msg"]


def test_a_page_for_all_of_hugging_face_has_to_be_public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAUTH_CLIENT_ID", "id")
    monkeypatch.setenv("OAUTH_CLIENT_SECRET", "secret")
    refusal = Settings(host="0.0.0.0").refusal()
    assert refusal is not None
    assert "DIPTYCH_REVIEWERS" in refusal
    for named in ({"owners": "boss"}, {"reviewers": "rita"}, {"public": True}, {"host": "127.0.0.1"}):
        found = Settings(**{"host": "0.0.0.0", **named})
        assert found.refusal() is None
        assert roll_of(found).anyone_reviews is found.public
    assert not guard_rules(Settings()).visitors


def test_records_and_files_lie_in_the_state_folder_or_where_one_says(tmp_path: Path) -> None:
    alone = Settings(state_dir=tmp_path)
    assert (alone.records_url, alone.files_dir) == (f"sqlite:///{tmp_path}/diptych.db", tmp_path)
    url = "postgresql://u@h/d"
    shared = Settings(state_dir=tmp_path, database_url=url, shared_dir=str(tmp_path / "files"))
    assert (shared.records_url, shared.files_dir) == (url, tmp_path / "files")


@pytest.mark.parametrize(
    "address", ["ray://head:10001", "head:8265", "http://me:hidden@head:8265", "http://head:8265/x"]
)
def test_a_cluster_is_the_address_of_its_job_server_without_a_password(address: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(ray_address=address)
    (error,) = caught.value.errors(include_url=False)
    assert "http://host:8265" in error["msg"]
    assert "hidden" not in error["msg"]


def test_jobs_run_on_this_machine_or_ask_a_cluster_for_a_share() -> None:
    assert Settings(ray_gpus=1).cluster is None
    cluster = Settings(ray_address="http://head.example:8265/", ray_cpus=4, ray_gpus=1)
    assert (cluster.ray_address, cluster.cluster) == ("http://head.example:8265", ClusterShare(cpus=4, gpus=1))
