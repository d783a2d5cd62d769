//! Random well-typed PromQL over the metrics `c_total`, `g`, `h_bucket` and `info`.

/// Numbers that look random and repeat with their seed (xorshift).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit.max(1)
    }

    /// True once in `n`.
    pub fn chance(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[self.below(items.len() as u64) as usize]
    }
}

/// What may be said.
pub struct Generator {
    /// Only what Prometheus 2.42 knows too, and means the same by.
    pub shared_only: bool,
}

const RANGES: [&str; 5] = ["30s", "1m", "2m", "5m", "10m"];
const LABELS: [&str; 4] = ["a", "b", "le", "nothing"];

impl Generator {
    pub fn expression(&self, random: &mut Random) -> String {
        let depth = 1 + random.below(3);
        if random.chance(12) { self.scalar(random, depth) } else { self.vector(random, depth) }
    }

    fn scalar(&self, random: &mut Random, depth: u64) -> String {
        match random.below(if depth == 0 { 3 } else { 6 }) {
            0 | 1 => self.number(random),
            2 => "time()".to_owned(),
            3 => format!("scalar({})", self.vector(random, depth - 1)),
            4 => format!("-({})", self.scalar(random, depth - 1)),
            _ => {
                let op = random.pick(&["+", "-", "*", "/", "^", "== bool", "> bool", "<= bool"]);
                format!("({} {op} {})", self.scalar(random, depth - 1), self.scalar(random, depth - 1))
            }
        }
    }

    fn number(&self, random: &mut Random) -> String {
        match random.below(10) {
            0 => "0".to_owned(),
            1 => "-1.5".to_owned(),
            2 => "NaN".to_owned(),
            3 => "Inf".to_owned(),
            4 => "1e3".to_owned(),
            5 => "0x1F".to_owned(),
            _ => random.below(100).to_string(),
        }
    }

    fn selector(&self, random: &mut Random) -> String {
        let name = random.pick(&["c_total", "g", "c_total", "g", "h_bucket", "info"]);
        let matcher = match random.below(8) {
            0 => "{a=\"x\"}",
            1 => "{a!=\"x\"}",
            2 => "{a=~\"x|y\"}",
            3 => "{b!~\"[12]\"}",
            4 => "{b=\"\"}",
            _ => "",
        };
        format!("{name}{matcher}")
    }

    fn shift(&self, random: &mut Random) -> String {
        match random.below(12) {
            0 => format!(" offset {}", random.pick(&RANGES)),
            1 => format!(" offset -{}", random.pick(&RANGES)),
            2 => " @ start()".to_owned(),
            3 => format!(" @ end() offset {}", random.pick(&RANGES)),
            _ => String::new(),
        }
    }

    fn matrix(&self, random: &mut Random, depth: u64) -> String {
        if depth > 0 && random.chance(4) {
            let (range, step) = (random.pick(&["1m", "5m", "10m"]), random.pick(&["15s", "30s", "1m"]));
            // Version 2 takes both ends of a subquery's range in.
            if !self.shared_only {
                return format!("({})[{range}:{step}]{}", self.vector(random, depth - 1), self.shift(random));
            }
        }
        format!("{}[{}]{}", self.selector(random), random.pick(&RANGES), self.shift(random))
    }

    fn vector(&self, random: &mut Random, depth: u64) -> String {
        if depth == 0 || random.chance(8) {
            return self.selector(random) + &self.shift(random);
        }
        match random.below(12) {
            0..=2 => self.of_range(random, depth),
            3 | 4 => self.aggregate(random, depth),
            5 | 6 => self.between_vectors(random, depth),
            7 => {
                let op = self.operator(random, &["==", "!=", ">", "< bool", ">= bool"]);
                let (vector, scalar) = (self.vector(random, depth - 1), self.scalar(random, depth - 1));
                if random.chance(2) { format!("({vector}) {op} {scalar}") } else { format!("{scalar} {op} ({vector})") }
            }
            8 | 9 => self.of_vector(random, depth),
            10 => format!("-({})", self.vector(random, depth - 1)),
            _ => format!("vector({})", self.scalar(random, depth - 1)),
        }
    }

    /// An operator of numbers, or one of the comparisons. Version 2 keeps names over `atan2`.
    fn operator<'a>(&self, random: &mut Random, comparisons: &[&'a str]) -> &'a str {
        let numbers = ["+", "-", "*", "/", "^", "atan2"];
        match random.below(2) {
            0 => random.pick(comparisons),
            _ => random.pick(&numbers[..if self.shared_only { 5 } else { 6 }]),
        }
    }

    fn of_range(&self, random: &mut Random, depth: u64) -> String {
        const PLAIN: [&str; 20] = [
            "rate",
            "increase",
            "delta",
            "irate",
            "idelta",
            "deriv",
            "changes",
            "resets",
            "sum_over_time",
            "avg_over_time",
            "min_over_time",
            "max_over_time",
            "count_over_time",
            "last_over_time",
            "present_over_time",
            "stddev_over_time",
            "stdvar_over_time",
            "absent_over_time",
            "rate",
            "increase",
        ];
        const NEWER: [&str; 7] = [
            "first_over_time",
            "mad_over_time",
            "ts_of_min_over_time",
            "ts_of_max_over_time",
            "ts_of_last_over_time",
            "ts_of_first_over_time",
            "quantile_over_time",
        ];
        let matrix = self.matrix(random, depth);
        match random.below(if self.shared_only { 8 } else { 10 }) {
            0 => format!("quantile_over_time({}, {matrix})", self.number(random)),
            // In Prometheus a pinned range moves along with the steps here.
            1 => format!("predict_linear({}[{}], {})", self.selector(random), random.pick(&RANGES), random.below(1000)),
            8 | 9 => {
                let name = random.pick(&NEWER);
                if name == "quantile_over_time" {
                    format!("{name}(0.9, {matrix})")
                } else {
                    format!("{name}({matrix})")
                }
            }
            _ => match random.pick(&PLAIN) {
                // Version 2 extends the rate of a counter near zero otherwise.
                name @ ("rate" | "increase") if self.shared_only => {
                    let counter = random.pick(&["c_total", "h_bucket"]);
                    format!("{name}({counter}[{}]{})", random.pick(&RANGES), self.shift(random))
                }
                name => format!("{name}({matrix})"),
            },
        }
    }

    fn grouping(&self, random: &mut Random) -> String {
        let words = match random.below(5) {
            0 => return String::new(),
            1 | 2 => "by",
            _ => "without",
        };
        let labels: Vec<&str> = (0..random.below(3)).map(|_| random.pick(&LABELS)).collect();
        format!(" {words} ({})", labels.join(", "))
    }

    fn aggregate(&self, random: &mut Random, depth: u64) -> String {
        let (grouping, vector) = (self.grouping(random), self.vector(random, depth - 1));
        match random.below(14) {
            // Among equals, and of NaN, the versions choose differently.
            0 if !self.shared_only => format!("topk{grouping} ({}, {vector})", random.below(4)),
            1 if !self.shared_only => format!("bottomk{grouping} ({}, {vector})", random.below(4)),
            2 => format!("quantile{grouping} ({}, {vector})", random.pick(&["0.5", "0.99", "0", "1", "-1", "2"])),
            // Sines and logarithms differ in their last digit, which would be a label here.
            3 => format!("count_values{grouping} (\"v\", {})", self.selector(random)),
            // Operators give Prometheus' series in no order.
            4 if !self.shared_only => format!("limitk{grouping} ({}, {})", random.below(4), self.selector(random)),
            5 if !self.shared_only => {
                format!("limit_ratio{grouping} ({}, {vector})", random.pick(&["0.5", "-0.3", "1"]))
            }
            _ => {
                // Of one infinity, version 2 says that it deviates by nothing.
                let all = ["sum", "avg", "min", "max", "count", "group", "sum", "avg", "stddev", "stdvar"];
                let op = random.pick(&all[..if self.shared_only { 8 } else { 10 }]);
                format!("{op}{grouping} ({vector})")
            }
        }
    }

    fn between_vectors(&self, random: &mut Random, depth: u64) -> String {
        let (left, right) = (self.vector(random, depth - 1), self.vector(random, depth - 1));
        let labels = random.pick(&["a", "a, b", "b", "le", "a, le"]);
        let side = random.pick(&["on", "ignoring"]);
        if random.chance(3) {
            // Names are dropped at once in version 2, which decides what `or` takes for the same series.
            let op = random.pick(&["and", "unless", "or"][..if self.shared_only { 2 } else { 3 }]);
            let matching = if random.chance(2) { format!("{side} ({labels})") } else { String::new() };
            return format!("({left}) {op} {matching} ({right})");
        }
        // Version 2 lets repeated matches pass where the comparison drops them.
        let comparisons: &[&str] =
            if self.shared_only { &["> bool", "!= bool"] } else { &["==", "> bool", "<", "!= bool"] };
        let op = self.operator(random, comparisons);
        let matching = match random.below(5) {
            0 => String::new(),
            1 => format!("{side} ({labels})"),
            2 => format!("on ({labels}) group_left ()"),
            3 => "on (a) group_left (name)".to_owned(),
            _ => format!("{side} ({labels}) group_right ()"),
        };
        format!("({left}) {op} {matching} ({right})")
    }

    fn of_vector(&self, random: &mut Random, depth: u64) -> String {
        const MATHS: [&str; 16] = [
            "abs",
            "exp",
            "sqrt",
            "ln",
            "log2",
            "log10",
            "sgn",
            "sin",
            "cos",
            "tan",
            "asinh",
            "tanh",
            "atan",
            "deg",
            "rad",
            "timestamp",
        ];
        // Of what is no time, Prometheus gives parts of the date that Go's conversion happens to end at.
        const DATES: [&str; 5] = ["minute", "hour", "day_of_week", "day_of_year", "days_in_month"];
        let vector = self.vector(random, depth - 1);
        match random.below(15) {
            14 => format!("{}(c_total * {})", random.pick(&DATES), random.below(100_000)),
            0 => format!("clamp({vector}, {}, {})", self.scalar(random, 0), self.scalar(random, 0)),
            1 => format!("clamp_min({vector}, {})", self.scalar(random, 0)),
            2 => format!("clamp_max({vector}, {})", self.scalar(random, 0)),
            3 => format!("label_replace({vector}, \"b\", \"$1-\", \"a\", \"(x|y)\")"),
            4 => format!("label_join({vector}, \"j\", \"/\", \"a\", \"b\")"),
            5 => format!("absent({vector})"),
            6 => {
                let q = random.pick(&["0.5", "0.9", "0", "1", "-0.1", "1.1"]);
                format!("histogram_quantile({q}, rate(h_bucket[{}]))", random.pick(&RANGES))
            }
            // Steps make much of a last digit that differs: they are taken of what is exact.
            7 => format!("round({}, {})", self.selector(random), random.pick(&["0.1", "5", "0.25"])),
            8 => {
                format!("{}({}) % {}", random.pick(&["ceil", "floor"]), self.selector(random), random.below(90))
            }
            _ => match random.pick(&MATHS) {
                // Version 2 finds no sample behind a pinned selector that is shifted as well.
                "timestamp" if self.shared_only => format!("timestamp({})", self.selector(random)),
                name => format!("{name}({vector})"),
            },
        }
    }
}

#[test]
fn what_is_generated_can_be_parsed() {
    let generator = Generator { shared_only: false };
    let mut random = Random::new(7);
    for _ in 0..20_000 {
        let text = generator.expression(&mut random);
        query::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}
