use std::io::BufRead;
fn main() {
    for line in std::io::stdin().lock().lines() {
        let q: String = serde_json::from_str(&line.unwrap()).unwrap();
        let m = match binnacle_query::parse(&q) { Ok(_) => String::new(), Err(e) => e.to_string() };
        println!("{}", serde_json::to_string(&m).unwrap());
    }
}
