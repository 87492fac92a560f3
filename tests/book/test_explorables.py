"""What all explorables share, and the loader that mounts them in a published page."""

import numpy as np
import pytest
import traitlets

from revlearn import widgets
from revlearn.widgets.explorable import Explorable, bundle


class Broken(Explorable):
    """An explorable whose front end fails while it is built, or does not even parse."""

    _esm = traitlets.Unicode().tag(sync=True)


def broken(build):
    front = f"export default {{ render: explorable([], {build}) }};"
    return Broken(_esm=bundle("common.js") + front)


def rows(page, label):
    """Return what a slider shows beside itself, in each view."""
    return page.locator(".revlearn-slider", has_text=label).locator("output").all_inner_texts()


def swipe(page, x, y, up):
    """Move a finger up in ten steps."""
    touch = page.context.new_cdp_session(page)
    touch.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    for kind, way in [("Start", 0), *(("Move", up * k / 10) for k in range(1, 11))]:
        touch.send(
            "Input.dispatchTouchEvent",
            {"type": f"touch{kind}", "touchPoints": [{"x": x, "y": y - way}]},
        )
        page.wait_for_timeout(20)  # as a hand does: a frame for each
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def failing(rates, momenta):
    raise ValueError("no such rate")


def test_an_error_while_drawing_stays_in_sight(bench):
    page = bench(widgets.ScheduleEditor(failing, steps=20, layers=["one"], learning_rate=0.1))
    alert = page.get_by_role("alert")
    assert "no such rate" in alert.inner_text()
    page.get_by_role("textbox").fill("0: 0.2")
    page.get_by_role("textbox").press("Enter")  # a change that draws again, with the same error
    assert "no such rate" in alert.inner_text()


def test_an_error_while_building_stays_in_sight(bench):
    page = bench(broken("() => { throw new Error('nothing to build') }"))
    page.set_viewport_size({"width": 500, "height": 900})
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    assert page.get_by_role("alert").inner_text() == "Error: nothing to build"


def test_a_front_end_that_the_browser_cannot_read_stops_no_other(bench):
    page = bench(Broken(_esm="export default {"), widgets.PhaseSpace())
    assert "does not run in this browser" in page.get_by_role("alert").inner_text()
    assert "After 60 steps" in page.locator(".revlearn-sentence").inner_text()
    assert len(page.complaints) == 1
    page.complaints.clear()


def test_a_widget_shown_twice_is_one_and_two_widgets_are_two(bench):
    phase = widgets.PhaseSpace(momentum=0.9)
    page = bench(phase, phase, widgets.PhaseSpace(momentum=0.9))
    page.get_by_label("momentum γ").first.press("ArrowLeft")
    assert rows(page, "momentum γ") == ["0.895", "0.895", "0.900"]


def test_a_slider_shows_the_value_itself_between_its_places(bench):
    page = bench(widgets.Rewind(learning_rate=0.62))
    assert rows(page, "learning rate") == ["0.62"]
    page.get_by_label("learning rate α").press("ArrowRight")
    assert rows(page, "learning rate") in (["0.65"], ["0.70"])


def test_what_leaves_the_frame_is_not_drawn_beside_it(bench):
    page = bench(widgets.EdgeOfChaos(log_rate=0.1, width=1.0))
    left = float(page.locator(".revlearn-frame").first.get_attribute("x"))
    lines = page.locator(".revlearn-plot").first.locator("line[stroke-dasharray='2 3']")
    places = [float(line.get_attribute("x1")) for line in lines.all()]
    assert len(places) == 1  # the right end of the window
    assert places[0] > left


def test_a_run_that_diverges_is_drawn_and_told(bench):
    page = bench(widgets.PhaseSpace(learning_rate=4.0, curvature=4.0, start=(9.0, 50.0)))
    assert "The energy has grown by a factor of" in page.locator(".revlearn-sentence").inner_text()
    plane = page.locator(".revlearn-plot svg").first.bounding_box()
    grip = page.get_by_role("slider", name="where the run starts").bounding_box()
    assert plane["x"] < grip["x"] + 9 < plane["x"] + plane["width"]
    assert plane["y"] < grip["y"] + 9 < plane["y"] + plane["height"]


def test_a_start_dragged_up_stops_at_the_speed_that_can_be_shown(bench):
    page = bench(widgets.PhaseSpace())
    grip = page.get_by_role("slider", name="where the run starts")
    box = grip.bounding_box()
    page.mouse.move(box["x"] + 9, box["y"] + 9)
    page.mouse.down()
    for step in range(25):
        page.mouse.move(box["x"] - step % 2, box["y"] - 150)
    page.mouse.up()
    assert grip.get_attribute("aria-valuetext").endswith("velocity 2.0")


def test_a_finger_drags_a_grip_and_scrolls_beside_it(bench):
    page = bench(widgets.PhaseSpace())
    page.set_viewport_size({"width": 390, "height": 600})
    grip = page.get_by_role("slider", name="where the run starts")
    box = grip.bounding_box()
    swipe(page, box["x"] + 9, box["y"] + 9, up=50)
    assert page.evaluate("scrollY") == 0
    assert 1.0 < float(grip.get_attribute("aria-valuenow")) < 2.0
    swipe(page, box["x"] - 100, box["y"] + 9, up=50)
    assert page.evaluate("scrollY") > 0


def test_other_stored_runs_are_drawn_when_python_sets_them(page):
    edge = widgets.EdgeOfChaos([0, 1, 2], [1, 2, 3], [1, 1, 1], source="stored", log_rate=1.0)
    other = widgets.EdgeOfChaos([0, 1, 2], [1, 7, 3], [1, 1, 1])
    page.set_content("<main></main>")
    text = page.evaluate(
        """async ([code, state, other]) => {
          const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
          const { default: front } = await import(address);
          const heard = {};
          const model = {
            get: (name) => state[name], set: (name, value) => { state[name] = value },
            on: (name, listener) => { heard[name] = listener }, off() {}, save_changes() {},
          };
          front.render({ model, el: document.querySelector("main") });
          heard["change:stored"]();
          model.set("stored", other);
          heard["change:stored"]();
          return document.querySelector(".revlearn-sentence").textContent;
        }""",
        [bundle("edge_of_chaos.js"), edge.get_state(), other.stored],
    )
    assert "the loss is 7.00" in text


def test_images_that_do_not_change_are_said_not_to(bench):
    page = bench(widgets.TrainedPixels(np.zeros((2, 3, 4, 4)), [1.0, 0.5]))
    page.locator(".revlearn-sentence").filter(has_text="After").wait_for()
    sentence = page.locator(".revlearn-sentence").inner_text()
    assert "no pixel moved by more than 0." in sentence


@pytest.mark.parametrize("name", ["EdgeOfChaos", "PhaseSpace", "Rewind", "ScheduleEditor"])
def test_a_narrow_window_shows_it_without_scrolling_sideways(bench, name):
    page = bench(getattr(widgets, name)())
    page.set_viewport_size({"width": 320, "height": 900})
    page.wait_for_function("document.querySelector('svg').getBoundingClientRect().width < 320")
    assert page.evaluate("document.documentElement.scrollWidth") == 320


def test_a_finger_that_scrolls_past_a_slider_leaves_it_as_it_was(bench):
    page = bench(widgets.PhaseSpace(learning_rate=0.3))
    page.set_viewport_size({"width": 390, "height": 500})
    before = page.locator(".revlearn-sentence").inner_text()
    box = page.get_by_label("learning rate α").bounding_box()
    swipe(page, box["x"] + 0.8 * box["width"], box["y"] + box["height"] / 2, up=60)
    page.wait_for_function("scrollY > 20")
    assert rows(page, "learning rate") == ["0.30"]
    assert page.locator(".revlearn-sentence").inner_text() == before


def test_home_and_end_move_a_grip_to_the_ends(bench):
    page = bench(widgets.PhaseSpace(start=(1.0, 0.5)))
    grip = page.get_by_role("slider", name="where the run starts")
    grip.press("End")
    assert float(grip.get_attribute("aria-valuenow")) >= 1.9
    grip.press("PageDown")
    grip.press("Home")
    assert float(grip.get_attribute("aria-valuenow")) <= -1.9
    assert page.evaluate("scrollY") == 0


def test_playing_stops_where_it_leads_to(bench, page):
    page.emulate_media(reduced_motion="no-preference")
    page = bench(widgets.Rewind(steps=20))
    page.get_by_role("button", name="play backwards").click()
    page.get_by_text("The start is met bit for bit").wait_for()
    page.wait_for_timeout(300)
    assert rows(page, "step t") == ["0 of 20"]
    assert page.get_by_role("button", name="play backwards").inner_text() == "play backwards"


def test_a_reset_ends_the_steps(bench, page):
    page.emulate_media(reduced_motion="no-preference")
    page = bench(widgets.ScheduleEditor())
    page.get_by_role("button", name="step until it rises").click()
    page.wait_for_timeout(700)
    page.get_by_role("button", name="reset").click()
    page.wait_for_timeout(700)
    said = page.locator(".revlearn-sentence").inner_text()
    assert said.startswith("After 60 steps the validation loss is 1.514.")
    assert page.get_by_role("button", name="step until it rises").count() == 1


def test_with_reduced_motion_a_player_says_that_it_steps(bench):
    page = bench(widgets.Rewind(steps=20))
    page.get_by_role("button", name="play backwards: one step").click()
    assert rows(page, "step t") == ["19 of 20"]
