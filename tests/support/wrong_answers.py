"""Wrong answers to the exercises of examples/course, each a change of the solution, with what the check has to say.

The lists of a lesson are in the order of its exercises.
"""

WRONG = {
    "lesson_1_one_neuron": [
        [
            (("y - answer", "answer - y"), "the sign is wrong"),
            (("answer * (1 - answer)", "(1 - answer)"), "must give"),
            (("return ", ""), "returns nothing; write return"),
            (("w @ x", "w * x"), r"must give one number; got an array of the shape \(2,\)"),
        ],
        [
            (("rate * delta  #", "rate * delta * x  #"), r"must give a number or an array; got \[.*, array"),
            (("rate * delta  #", "delta  #"), r"at \[\d\]; got"),
            (("w + rate * delta * x", "w - rate * delta * x"), r"at \[0\]; got"),
        ],
        [
            (("0.5 *", "1.0 *"), "after step 1 of 20 a weight must be"),
            (("return {", "{"), "as a dict; got nothing; write return"),
            (("* x[0]", ""), "after step 2 of 20 a weight must be"),
            (('{"weights": weights}', "weights"), "must return its parameters by name, as a dict; got array"),
            (("+ 0.5 *", "- 0.5 *"), "after step 1 of 20 a weight must be"),
        ],
    ],
    "lesson_2_derivatives": [
        [
            (("h - little", "h"), "must give"),
            (("(2 * little)", "little"), "must give"),
        ],
        [
            (("return -2", "-2"), "returned None: write return"),
            (("-2 * h", "2 * h"), "Bell.derivative is wrong"),
            (("self.s**2", "self.s"), "Bell.derivative is wrong"),
            (("-2 * h / self.s**2 * ", ""), "Bell.derivative is wrong"),
        ],
        [
            (("* w2 *", "*"), "must give"),
            (("1 - outer**2", "1 - inner**2"), "must give"),
            (("(1 - inner**2) * x", "(1 - inner**2)"), "must give"),
        ],
    ],
    "lesson_3_descent": [
        [
            (("-np.mean", "np.mean"), "the sign is wrong"),
            (("np.mean", "np.sum"), "must give"),
            (("np.mean", ""), "must give one number; got an array"),
            (("np.log(1 - p)", "np.log(p)"), "must give"),
        ],
        [
            (("/ len(y)", ""), "after step 1 of 10 a weight must be"),
            (("2 *", ""), "after step 1 of 10 a weight must be"),
        ],
        [(("6.0", "0.5"), "not below 0.18"), (("6.0", "60.0"), "not below 0.18")],
    ],
    "lesson_4_digits": [
        [
            (("axis=1", "axis=0"), "must give|broadcast|shape"),
            (("np.mean", "np.sum"), "must give 1; got 10"),
        ],
        [
            ((">= patience", "> patience"), "must give"),
            (("best, best_epoch = loss, epoch", "best_epoch = epoch"), "must give"),
            (("return len(losses)", "return None"), "returns nothing"),
        ],
        [
            (("Dense(64, 16, ReLU()), Dense(16", "Dense(64, 32, ReLU()), Dense(32"), "more than 1,500"),
            (("Dense(64, 16, ReLU()), Dense(16", "Dense(64, 2, ReLU()), Dense(2"), "less than 95 %"),
        ],
    ],
    "lesson_5_tables": [
        [
            (("train.mean()) / train.std()", "new.mean()) / new.std()"), "must give"),
            (("train.std()", "train.var()"), "must give"),
        ],
        [
            (('Impute("median"), Standardize()]', "Standardize()]"), "size"),
            (('Impute("median"), Standardize()]', "Standardize(), Impute()]"), r"make Impute\(\) its first step"),
            (("[OneHot()]", "[Standardize()]"), "colour"),
            (('"price": [Standardize()]', '"price": [Impute()]'), "mean 0 and the deviation 1"),
            (("[Classes()]", "[]"), "sold|target|classes"),
        ],
    ],
    "lesson_6_own_parts": [
        [
            (("np.abs(h)", "h"), "must give"),
            (("np.abs(h)", "h**2"), "must give"),
            (("(1 + np.abs(h))", "(1 + h if h > 0 else 1 - h)"), "use np.where"),
            (("return h", "h"), "write return"),
        ],
        [
            (("error**2 / 2", "error**2"), "must give"),
            (("error <= self.delta", "error <= 1.0"), "must give"),
            (("error <= self.delta", "error <= delta"), "'delta' is not defined"),
            (("self.delta * (error - self.delta / 2)", "error - 0.5"), "must give"),
            (("np.abs(prediction - target)", "prediction - target"), "must give"),
        ],
        [
            (("values -= rate", "values += rate"), "must give"),
            (("velocity += gradients", "velocity += (1 - self.mu) * gradients"), "must give"),
            (("velocity *= self.mu", "velocity *= 0.9"), "must give"),
            (("values -= rate * velocity", "values = values - rate * velocity"), "write into the one given"),
        ],
    ],
    "lesson_7_keep_it": [
        [
            (("epochs=5", "epochs=8"), "it has made 11"),
            (("continued.optimizer.learning_rate = 0.0015\n", ""), "the rates of the 8 epochs"),
        ],
        [
            (("if newest is None:", "if True:"), "holds another run's"),
            (("resume(newest, data)", "resume(newest, data, epochs=6)"), "must give"),
            (("trainer.resume(newest, data)", "trainer.fit(load_model(newest), data)"), "holds another run's"),
        ],
        [
            ((", 0)\n    h", ", 1)\n    h"), "must give"),
            (("return powers / powers.sum(axis=1, keepdims=True)", "return powers / powers.sum()"), "must give"),
            (("return powers / powers.sum(axis=1, keepdims=True)", "return h"), "must give"),
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
