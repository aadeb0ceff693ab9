// What the numbers are: accuracies, or losses in nats, of which lower ones are better.
const ACCURACY = { name: "accuracy", title: "accuracy", unit: "points", scale: 100, digits: 1, higher_is_better: true };
const metric = payload.metric ?? ACCURACY;
const isAccuracy = metric.name === ACCURACY.name;
const direction = metric.higher_is_better ? 1 : -1;
const level = (value) => (isAccuracy ? percent(value) : known(value) ? fixed(value, metric.digits) : DASH);
// The t interval of an accuracy knows no bounds: it is shown within 0 and 100%.
const within = (share) => Math.min(1, Math.max(0, share));
const levelRange = (pair) => (isAccuracy ? percentRange(knownPair(pair) ? pair.map(within) : pair) : knownPair(pair) ? `${level(pair[0])} to ${level(pair[1])}` : DASH);
const effect = (value, digits = metric.digits) => (known(value) ? signed(metric.scale * value, digits) : DASH);
const effectRange = (pair) => (knownPair(pair) ? `[${effect(pair[0])}, ${effect(pair[1])}]` : DASH);
// For files: the number in the unit that is shown, with every digit that the page has.
const scaled = (value) => (known(value) ? Number((metric.scale * value).toPrecision(6)) : null);
const scaledPair = (pair) => (pair ?? [null, null]).map(scaled);
const effectAxis = isAccuracy ? "points of accuracy" : `${metric.unit} of loss`;
// A tick of an axis of effects, in points or nats.
const effectTick = (value, all) => effect(value, tickDigits(all, metric.scale));
const marginText = () => (isAccuracy ? fixed(100 * payload.margin, 0) : String(payload.margin));
