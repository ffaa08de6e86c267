# %% [markdown]
# # 5. From a table to predictions
#
# Data come as tables: text, numbers of any size, dates, empty cells. A network takes numbers of about the size of 1.
# You say column by column how the one becomes the other, train, and predict for new rows in their raw form.
#
# About 15 minutes. You need lesson 4, and pandas a little.

# %%
import numpy as np
import pandas as pd

from framework import (
    Accuracy,
    AdamOptimizer,
    BinaryCrossEntropy,
    Dense,
    EarlyStopping,
    Impute,
    Neuron,
    OneHot,
    Preprocess,
    ReLU,
    Sequential,
    Sigmoid,
    Standardize,
    Trainer,
    split,
)
from framework.preprocessing import Classes
from framework.testing import check_function, check_written

# %% [markdown]
# ## The table
#
# 1,000 train journeys, made up: the distance in km, the minutes between two trains, the weather, and whether the
# passenger came late. Every twentieth wait and some of the weather are missing.

# %%
rng = np.random.default_rng(0)
rows = 1000
table = pd.DataFrame(
    {
        "distance": rng.uniform(5, 600, rows).round(),
        "wait": rng.exponential(12, rows).round(1),
        "weather": rng.choice(["sun", "rain", "snow"], rows, p=[0.6, 0.3, 0.1]),
    }
)
snow = table["weather"] == "snow"
risk = table["distance"] / 150 - table["wait"] / 6 + 3 * snow - 0.5
table["late"] = np.where(risk + rng.logistic(0, 0.5, rows) > 0, "yes", "no")
table.loc[::20, "wait"] = np.nan
table.loc[5::50, "weather"] = None
train, rest = split((table, "late"), 0.4, seed=0)
validation, test = split(rest, 0.5, seed=1)
table.head()

# %% [markdown]
# ## What becomes of each column
#
# - Numbers are **standardized**: minus their mean, divided by their standard deviation.
# - Where a number is missing, the median takes its place, and one more column says so. That a value is missing may
#   itself mean something.
# - Each level of a text gets a column that is 1 or 0: **one-hot**. Numbers 0, 1, 2 instead would claim that snow is
#   twice rain.
# - The target becomes the classes 0 and 1, and comes back as text.
#
# `Preprocess.of` looks at the data and proposes all that, as code to read and change:

# %%
print(Preprocess.of(train))

# %% [markdown]
# Every row has a distance, so that column needs no `Impute`. No number lies far from the others, so `Clip`, which cuts
# numbers off at 5 standard deviations, is left out. The rest is taken as proposed.

# %%
recipe = Preprocess(
    columns={
        "distance": [Standardize()],
        "wait": [Impute("median"), Standardize()],
        "weather": [OneHot()],
    },
    target=[Classes()],
)
trainer = Trainer(
    loss=BinaryCrossEntropy(),
    optimizer=AdamOptimizer(learning_rate=0.02),
    epochs=40,
    metrics=[Accuracy()],
    callbacks=[EarlyStopping(monitor="val_loss", patience=8, restore_best=True)],
    preprocess=recipe,
)
model = Sequential(Dense(units=8, activation=ReLU()), Neuron(activation=Sigmoid()))
run = trainer.fit(model, train, validation=validation)
print(trainer.evaluate(model, test))
run.plot()

# %% [markdown]
# ## Only from the training rows
#
# Means, medians and levels were learnt from the training rows alone, as are the weights. If the test rows took part
# in them, the test would no longer be a test. That is called a **leak**, and it is the commonest way to fool oneself
# with a table. What was learnt belongs to the model:

# %%
print(model.preprocess.names)
model.preprocess

# %% [markdown]
# So the model takes raw rows. They may be in another order of columns, and have a level that it has never seen.

# %%
new = pd.DataFrame(
    {
        "weather": ["snow", "sun", "fog"],
        "wait": [3.0, 40.0, None],
        "distance": [300, 20, 500],
    }
)
print(model.classify(new))
print(model.predict(new).round(3))

# %% [markdown]
# ## Exercise 1: standardize
#
# Standardize the column `new` with what is learnt from the column `train`. Both are arrays of numbers.


# %% tags=["exercise"]
def standardize(train, new):
    return ...


# %% tags=["solution"]
def standardize(train, new):
    return (new - train.mean()) / train.std()


# %% tags=["check"]
def true_standardize(train, new):
    table = pd.DataFrame({"a": train, "y": 0.0})
    learnt = Preprocess(columns={"a": [Standardize()]}).fit((table, "y"))
    return learnt.transform(pd.DataFrame({"a": new}))[:, 0]


check_written("exercise 1", standardize)
cases = [(rng.normal(5, 3, 50), rng.normal(5, 3, n)) for n in (2, 10)]
cases.append((np.array([1.0, 2.0, 6.0]), np.zeros(2)))
print(f"Right: {check_function(standardize, true_standardize, cases)} cases.")

# %% [markdown]
# ## Exercise 2: a recipe
#
# Another table, of clothes in a shop. Say what becomes of each column: `size` and `price` are numbers, and some sizes
# are missing; `colour` is text. The target, `sold`, is yes or no.

# %%
shop = pd.DataFrame(
    {
        "size": rng.choice([36.0, 38.0, 40.0, np.nan], 200),
        "price": rng.uniform(5, 200, 200).round(2),
        "colour": rng.choice(["black", "red", "white"], 200),
    }
)
shop["sold"] = np.where(shop["price"] < 60, "yes", "no")

# %% tags=["exercise"]
my_columns = {"size": [...], "price": [...], "colour": [...]}
my_target = [...]

# %% tags=["solution"]
my_columns = {
    "size": [Impute("median"), Standardize()],
    "price": [Standardize()],
    "colour": [OneHot()],
}
my_target = [Classes()]

# %% tags=["check"]
check_written("exercise 2", my_columns, my_target)
mine = Preprocess(columns=my_columns, target=my_target).fit((shop, "sold"))
x = pd.DataFrame(mine.transform(shop.drop(columns="sold")), columns=mine.names)
hot = {"colour=black", "colour=red", "colour=white"}
assert hot <= {*mine.names}, (
    f"colour must become a column for each level; the columns are {mine.names}"
)
assert "size missing" in mine.names, (
    "a column must say where the size was missing; does Impute come first?"
)
for name in ("size", "price"):
    mean, deviation = x[name].mean(), x[name].std(ddof=0)
    assert np.allclose([mean, deviation], [0, 1]), (
        f"{name} must have the mean 0 and the deviation 1; "
        f"got {mean:.3g} and {deviation:.3g}"
    )
assert mine.classes == {"sold": ("no", "yes")}, (
    f"the target must have the classes no and yes; got {mine.classes}"
)
print("Right:", ", ".join(mine.names))

# %% [markdown]
# ## What to keep
#
# - Say for each column what it is. The numbers are learnt from the training rows, and travel with the model.
# - A missing value is information: keep a column for it.
# - A table that is prepared before it is split has leaked.
