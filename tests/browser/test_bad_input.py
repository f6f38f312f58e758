"""Bad input: each with a message that names it and says what is accepted, and nothing that was written is lost."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.compare_page import ComparePage
from tests.browser.pictures import FAULTY, File, file, photo, pixels, plain
from tests.data.images.make_images import BLUE, GREEN, RED, YELLOW, animated

DRAFT = "What is in this picture? 我的问题"


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_picture_is_refused_in_words(compare: ComparePage, name: str) -> None:
    faulty, words = FAULTY[name]
    compare.prompt.fill(DRAFT)
    compare.attach(plain(1))
    compare.choose_files(faulty)
    expect(compare.trouble.locator("p")).to_have_count(1)
    for word in words:
        expect(compare.trouble).to_contain_text(word)
    expect(compare.thumbs).to_have_count(1)
    expect(compare.prompt).to_have_value(DRAFT)
    compare.trouble.get_by_role("button", name="Dismiss").click()
    expect(compare.trouble.locator("p")).to_have_count(0)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_f32_a_turned_photo_is_accepted_upright_with_a_note(compare: ComparePage, orientation: int) -> None:
    compare.attach(photo(orientation))
    expect(compare.facts).to_contain_text("96 × 64")
    expect(compare.facts.locator(".dt-note")).to_contain_text("EXIF")
    stored = httpx.get(compare.page.locator(".dt-picture").evaluate("image => image.src")).content
    assert pixels(stored) == [RED, GREEN, BLUE, YELLOW]
    assert b"SECRET" not in stored


def test_f31_an_animated_png_is_its_first_frame_and_says_so(compare: ComparePage) -> None:
    compare.attach(file("dance.png", animated("PNG")))
    expect(compare.facts.locator(".dt-note")).to_contain_text("frame")
    stored = httpx.get(compare.page.locator(".dt-picture").evaluate("image => image.src")).content
    assert set(pixels(stored)) == {RED}


def test_f36_six_pictures_where_four_are_allowed(compare: ComparePage) -> None:
    compare.prompt.fill(DRAFT)
    compare.choose_files(*(plain(number) for number in range(6)))
    expect(compare.trouble).to_contain_text("6 images are too many: a turn takes at most 4.")
    expect(compare.trouble).to_contain_text("The first 4 of the new ones were kept.")
    expect(compare.thumbs).to_have_count(4)
    compare.choose_files(plain(7))
    expect(compare.trouble).to_contain_text("Remove one first.")
    expect(compare.thumbs).to_have_count(4)
    compare.page.get_by_role("button", name="Remove plain-0.png").click()
    expect(compare.thumbs).to_have_count(3)
    compare.attach(plain(8))
    expect(compare.prompt).to_have_value(DRAFT)


def test_f36_too_many_pictures_for_the_conversation(compare: ComparePage) -> None:
    compare.choose_scripted()
    compare.attach(*(plain(number) for number in range(3)))
    compare.ask("Which three?")
    compare.attach(plain(3), plain(4))
    compare.send(DRAFT)
    expect(compare.trouble).to_contain_text("the conversation would hold 5 images; the models take 4")
    expect(compare.prompt).to_have_value(DRAFT)
    expect(compare.thumbs).to_have_count(2)
    assert compare.turns(0).count() == 1


def test_f36_a_file_that_is_too_big_is_not_even_sent(compare: ComparePage) -> None:
    compare.prompt.fill(DRAFT)
    compare.choose_files(file("photo.png", b"\x89PNG\r\n\x1a\n" + bytes(21_500_000)))
    expect(compare.trouble).to_contain_text("“photo.png”")
    expect(compare.trouble).to_contain_text("MB")
    expect(compare.prompt).to_have_value(DRAFT)


def test_tools_that_are_not_json(compare: ComparePage) -> None:
    settings = compare.open_settings()
    settings.locator(".cm-content").click()
    compare.page.keyboard.insert_text("[{name: look}]")
    compare.send(DRAFT)
    expect(compare.trouble).to_contain_text("The tools are not JSON")
    expect(compare.trouble).to_contain_text("line 1 column 3")
    expect(compare.prompt).to_have_value(DRAFT)
    assert compare.turns(0).count() == 0


def test_an_empty_prompt_is_asked_for(compare: ComparePage) -> None:
    compare.attach(plain(1))
    compare.send("   ")
    expect(compare.trouble).to_contain_text("The prompt is empty.")
    expect(compare.thumbs).to_have_count(1)


def test_f48_a_failed_upload_keeps_the_prompt(compare: ComparePage) -> None:
    compare.page.route("**/gradio_api/upload*", lambda route: route.abort())
    compare.prompt.fill(DRAFT)
    compare.choose_files(plain(1))
    expect(compare.trouble).to_contain_text("“plain-1.png” could not be uploaded.")
    expect(compare.prompt).to_have_value(DRAFT)
    compare.page.unroute("**/gradio_api/upload*")
    compare.attach(plain(1))


def test_a_good_picture_next_to_a_bad_one_is_kept(compare: ComparePage) -> None:
    bad: File = FAULTY["text"][0]
    compare.choose_files(plain(1), bad, plain(2))
    expect(compare.trouble).to_contain_text("“notes.png”")
    expect(compare.thumbs).to_have_count(2)
    expect(compare.ask_button).to_be_enabled()
