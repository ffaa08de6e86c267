"""Wrong answers to the exercises of examples/course, each a change of the solution, with what the check has to say.

The lists of a lesson are in the order of its exercises.
"""

WRONG = {
    "lesson_1_one_neuron": [
        [
            (("y - answer", "answer - y"), "the sign is wrong"),
            (("answer * (1 - answer)", "(1 - answer)"), "must give"),
            (("return ", ""), "returns nothing; write return"),
        ],
        [
            (("rate * delta  #", "delta  #"), r"at \[\d\]; got"),
            (("w + rate * delta * x", "w - rate * delta * x"), r"at \[0\]; got"),
        ],
        [
            (("0.5 *", "1.0 *"), "part at step 1 of 20"),
            (("* x[0]", ""), "part at step 2 of 20"),
        ],
    ],
    "lesson_8_transformer": [
        [
            (("np.sqrt(q.shape[-1])", "q.shape[-1]"), "must give"),
            (("/ np.sqrt(q.shape[-1])", "/ 2 / np.sqrt(q.shape[-1])"), "all of it is 0.5 times"),
        ],
        [
            (("> 0", "< 1"), r"at \[0, 0, 0\]"),
            (("np.tri(x.shape[1])", "np.tri(x.shape[1], k=1)"), "must give"),
            (("-1e9", "0.0"), "must give"),
        ],
        [
            (
                ("(centred**2).mean(axis=-1, keepdims=True) + epsilon", "(centred**2).sum(axis=-1, keepdims=True)"),
                "must give",
            ),
            ((" + epsilon)", ") + epsilon"), "must give"),
        ],
    ],
}
