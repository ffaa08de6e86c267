"""Models as tables for notebooks."""

import numpy as np
import pytest
from notebook_pieces import text_of

from framework import Dense, Embedding, Heads, Join, Layer, Neuron, ReLU, Sequential, Sigmoid, Softmax
from framework.models import Input


def test_every_part_of_a_model_of_several_inputs_and_outputs_has_a_row():
    model = Sequential(
        Join(**{"<i>city</i>": Embedding(5, 2), "numbers": Input(3)}),
        Heads(late=Neuron(activation=Sigmoid()), kind=Dense(units=4, activation=Softmax())),
    )
    text = text_of(model._repr_html_())
    assert {"0 Join", "0.<i>city</i> Embedding()", "1.late Neuron(Sigmoid)", "1.kind Dense(Softmax)"} <= {*text}
    assert f" {model.parameters.vector.size} parameters, {model.parameters.vector.size} trainable" in text


def test_frozen_parameters_are_marked_and_not_counted():
    model = Sequential(Dense(2, 3), ReLU(), Dense(3, 1))
    model.parameters.freeze("0.*")
    text = text_of(model._repr_html_())
    assert text[1] == " 13 parameters, 4 trainable"
    assert text[text.index("weights") + 1] == "(2, 3), frozen"
    assert text_of(model[0]._repr_html_())[1] == " 9 parameters, 0 trainable"


def test_to_show_a_model_draws_no_numbers():
    model = Sequential(Dense(2, 3), ReLU(), Dense(3, 1))
    model._repr_html_()
    assert model._state is None


@pytest.mark.parametrize("layer", [Layer.of(np.tanh), Neuron(2), Dense(units=3)], ids=repr)
def test_a_layer_by_itself_is_a_table_of_one_row(layer):
    assert text_of(layer._repr_html_())[0] == type(layer).__name__
