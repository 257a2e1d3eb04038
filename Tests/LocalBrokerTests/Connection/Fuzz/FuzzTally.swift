/// What the fuzzer has reached, to know that it reaches anything.
struct FuzzTally: CustomStringConvertible {
    /// Packets, whole and damaged, that were sent.
    var inputs = 0
    var connectionsAccepted = 0
    var sessionsResumed = 0
    var messagesReceived = 0
    var messagesResent = 0
    var answers = 0
    var brokenOff = 0
    /// Messages that could be compared with an earlier one of their stream.
    var ordered = 0
    /// Connections that the broker ended for what the client sent.
    var refused = 0

    var isVaried: Bool {
        self.connectionsAccepted * 100 > self.inputs && self.sessionsResumed > 0 && self.messagesReceived > 0
            && self.messagesResent > 0 && self.answers * 10 > self.inputs && self.refused > 0 && self.brokenOff > 0
            && self.ordered > 0
    }

    var description: String {
        "inputs \(self.inputs), connections \(self.connectionsAccepted), resumed \(self.sessionsResumed), messages "
            + "\(self.messagesReceived), resent \(self.messagesResent), answers \(self.answers), refused "
            + "\(self.refused), broken off \(self.brokenOff), in order \(self.ordered)"
    }

    static func += (sum: inout FuzzTally, part: FuzzTally) {
        sum.inputs += part.inputs
        sum.connectionsAccepted += part.connectionsAccepted
        sum.sessionsResumed += part.sessionsResumed
        sum.messagesReceived += part.messagesReceived
        sum.messagesResent += part.messagesResent
        sum.answers += part.answers
        sum.brokenOff += part.brokenOff
        sum.ordered += part.ordered
        sum.refused += part.refused
    }
}

extension SeededGenerator {
    /// True so many times of a hundred.
    mutating func chance(_ percent: Int) -> Bool {
        Int.random(in: 0..<100, using: &self) < percent
    }

    mutating func below(_ bound: Int) -> Int {
        Int.random(in: 0..<bound, using: &self)
    }

    mutating func pick<Element>(_ choices: [Element]) -> Element {
        choices[self.below(choices.count)]
    }
}
