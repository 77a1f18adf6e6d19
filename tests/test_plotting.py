"""The figure shows the numbers it claims to show."""

from io import BytesIO

import numpy as np
import pytest
from scipy.integrate import trapezoid

import ufm_fast as uf
from ufm_fast.plotting.inspection import plot_inspection
from ufm_fast.plotting.models import plot_census, plot_solution, plot_spectrum


@pytest.fixture(scope="module")
def solved():
    ufm = uf.UFM(6, 6, [50, 40, 30, 20, 10, 5], lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    return ufm, uf.minimize(ufm, ufm.unpack(np.zeros(ufm.size)))


def lines(axes):
    return {line.get_label(): line.get_xydata().T for line in axes.get_lines()}


def test_curves_are_the_history(solved):
    ufm, result = solved
    figure = plot_solution(ufm, result, tol=1e-7)
    loss_axes, gap_axes, *_ = figure.axes
    history = result.history
    np.testing.assert_array_equal(lines(loss_axes)["loss"], [history["seconds"], history["loss"]])
    np.testing.assert_array_equal(
        lines(loss_axes)["certified lower bound"], [history["seconds"], history["lower_bound"]]
    )
    gaps = (history["loss"] - history["lower_bound"]) / history["loss"]
    np.testing.assert_allclose(lines(gap_axes)["certified so far"][1], np.maximum(gaps, np.finfo(float).eps))
    last = (history["loss"] - result.certificate.lower_bound) / history["loss"]
    np.testing.assert_allclose(lines(gap_axes)["in hindsight (last bound)"][1], np.maximum(last, np.finfo(float).eps))
    assert gap_axes.get_yscale() == "log"
    assert lines(gap_axes)["tolerance"][1][0] == 1e-7


def test_every_escape_is_marked(solved):
    ufm, result = solved
    assert result.escapes > 0
    result.history["escaped"][-1] = True  # a second one
    expected = result.history["seconds"][result.history["escaped"]]
    for axes in plot_solution(ufm, result).axes[:2]:
        marked = [line.get_xdata()[0] for line in axes.get_lines() if line.get_linestyle() == ":"]
        np.testing.assert_array_equal(marked, expected)
        assert [text.get_text() for text in axes.get_legend().get_texts()].count("escape from a saddle") == 1


def test_singular_values_and_gram_matrix(solved):
    ufm, result = solved
    _, _, values_axes, gram_axes, *_ = plot_solution(ufm, result).axes
    (values,) = values_axes.get_lines()
    W = result.point.W
    np.testing.assert_allclose(values.get_ydata() ** 2, np.linalg.eigvalsh(W @ W.T)[::-1], atol=1e-12)
    (image,) = gram_axes.get_images()
    np.testing.assert_allclose(image.get_array(), W @ W.T, rtol=1e-13)
    off_diagonal = W @ W.T - np.diag(np.diag(W @ W.T))
    assert image.get_clim() == pytest.approx((-np.abs(off_diagonal).max(), np.abs(off_diagonal).max()))


def test_of_many_classes_some_are_drawn():
    """Of 2998: every third, the first and the last among them; the ticks count all."""
    K, d = 2998, 4
    rng = np.random.default_rng(0)
    W, labels = rng.standard_normal((K, d)), np.repeat(np.arange(K), 2)
    metrics = uf.nc_metrics(W, W[labels] + 0.1 * rng.standard_normal((2 * K, d)), labels)
    of_W, of_means, _, histogram, *_ = plot_inspection(W, metrics).axes
    unit = W[::3] / np.linalg.norm(W[::3], axis=1)[:, None]
    for axes, vectors in ((of_W, unit), (of_means, (metrics.class_means - metrics.global_mean)[::3])):
        (image,) = axes.get_images()
        shown = np.asarray(image.get_array())
        norms = np.linalg.norm(vectors, axis=1)
        np.testing.assert_allclose(shown[0], vectors @ vectors[0] / (norms * norms[0]), atol=1e-14)
        assert shown.shape == (1000, 1000)
        assert list(image.get_extent()) == [-0.5, K - 0.5, K - 0.5, -0.5]
        assert axes.get_title().endswith("\n1000 of 2998 classes")
    assert sum(bar.get_height() for bar in histogram.patches) == 2 * 1000 * 999


def test_the_zero_optimum_can_be_drawn():
    ufm = uf.UFM(3, 3, lambda_W=1.0, lambda_H=1.0)
    figure = plot_solution(ufm, uf.minimize(ufm))
    stream = BytesIO()
    figure.savefig(stream, format="png")
    assert stream.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize("at_minimum", [True, False])
def test_spectrum_counts_and_density(at_minimum):
    ufm = uf.UFM(5, 4, 3, lambda_W=1e-3, lambda_H=2e-4, lambda_b=1e-2)
    spectrum = uf.spectrum(ufm, uf.global_minimum(ufm).point if at_minimum else uf.saddle(ufm, 2))
    marked = [-0.25, 0.0]
    count_axes, density_axes = plot_spectrum(spectrum, marked).axes
    x, count = lines(count_axes)["estimate"]
    np.testing.assert_array_equal(x, spectrum.nodes)
    assert count[-1] == pytest.approx(85)
    x, density = lines(density_axes)["estimate"]
    assert trapezoid(density, x) == pytest.approx(85, rel=1e-4)
    assert ("closed form" in lines(count_axes)) == at_minimum
    if at_minimum:
        values, multiplicities = uf.closed_form_spectrum(ufm)
        np.testing.assert_array_equal(lines(count_axes)["closed form"], [values, np.cumsum(multiplicities)])
        assert trapezoid(lines(density_axes)["closed form"][1], x) == pytest.approx(85, rel=1e-4)
    for axes in (count_axes, density_axes):
        np.testing.assert_array_equal(lines(axes)["lowest eigenvalues"][0], marked)


def test_a_spectrum_without_marks_fills_its_figure(tmp_path):
    ufm = uf.UFM(5, 4, 3, lambda_W=1e-3, lambda_H=2e-4, lambda_b=1e-2)
    figure = plot_spectrum(uf.spectrum(ufm, uf.saddle(ufm, 2)))
    figure.savefig(tmp_path / "spectrum.png")
    assert all(axes.get_position().width > 0.35 for axes in figure.axes)


def test_pyplot_is_left_alone(run_python):
    script = """
import sys
import ufm_fast as uf
from ufm_fast.plotting.inspection import plot_inspection
from ufm_fast.plotting.models import plot_solution
ufm = uf.UFM(3, 3, lambda_W=1e-2, lambda_H=1e-2)
plot_solution(ufm, uf.minimize(ufm))
print("matplotlib.pyplot" in sys.modules)
"""
    assert run_python(script) == "False\n"


def test_colours_of_equal_eigenvalues_have_a_scale():
    """With balanced classes all saddles have one lowest eigenvalue, but for rounding; labels of the colours differ."""
    census = uf.census(uf.UFM(8, 8, 5, lambda_W=1e-3, lambda_H=1e-3, lambda_b=1e-2), runs=8)
    values = census.points["lowest_eigenvalue"][census.points["kind"] == "strict_saddle"]
    assert 0 < np.ptp(values) < 1e-12
    figure = plot_census(census)
    figure.canvas.draw()
    (axes,) = (axes for axes in figure.axes if axes.get_ylabel() == "− lowest eigenvalue at the saddle")
    labels = [label.get_text() for label in axes.get_yticklabels(which="both") if label.get_text()]
    assert len(labels) == len(set(labels)) > 0
