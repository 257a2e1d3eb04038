import Gossip

/// Which keys do members have, or change them everywhere. The answer is what `node key … --json` prints; docs/operations.md
/// describes it. Keys are in it by their fingerprints only.
struct KeyQuestion: ControlQuestion {
    static let command = "key"

    enum Action: String, Codable, Sendable {
        case list, add, use, remove
    }

    var action: Action
    /// In base64, or the fingerprint of a key that the node has. Secret.
    var key: String?
    /// Go on where a look at the members' keys says that some of them would be cut off.
    var isForced = false

    struct Answer: Codable, Equatable, Sendable {
        /// The node that was asked.
        var node: String
        /// The key that was added, made the first or removed.
        var key: String?
        /// By name.
        var members: [Entry]
    }

    struct Entry: Codable, Equatable, Sendable {
        enum Outcome: String, Codable, Sendable {
            case done, refused, silent
        }

        var name: String
        var outcome: Outcome
        /// Why not, or what the member adds.
        var message: String?
        /// Where it was asked for: the keys that it has, the one that encrypts first.
        var keys: [String]?
    }
}

extension KeyQuestion.Answer {
    init(node: String, key: String?, report: KeyReport, isList: Bool) {
        self.node = node
        self.key = key
        let answered = report.answers.map { KeyQuestion.Entry(name: $0, $1, isList: isList) }
        let silent = report.silent.map { name in
            KeyQuestion.Entry(name: name, outcome: .silent, message: "it did not answer")
        }
        self.members = (answered + silent).sorted { $0.name < $1.name }
    }

    /// Whether every member did it.
    var isComplete: Bool { self.members.allSatisfy { $0.outcome == .done } }

    /// What did not go well, and what members add, each in a line.
    var messages: [String] {
        self.members.compactMap { member in member.message.map { "\(member.name): \($0)".escaped } }
    }

    /// For people: each key with those that have it.
    var table: String {
        let listed = self.members.filter { $0.outcome == .done }
        var keys: [String] = []
        for key in listed.flatMap({ $0.keys ?? [] }) where !keys.contains(key) { keys.append(key) }
        let rows = keys.map { key in
            let first = listed.count { $0.keys?.first == key }
            let missing = listed.filter { $0.keys?.contains(key) != true }.map(\.name)
            let has = "\(listed.count - missing.count) of \(self.members.count)"
            return [key, "\(first)", missing.isEmpty ? has : "\(has); not \(missing.joined(separator: ", "))"]
                .map(\.escaped)
        }
        return TextTable.render([["key", "encrypts at", "members that have it"]] + rows)
    }

    /// For people: what was done.
    func summary(_ action: KeyQuestion.Action) -> String {
        let verb =
            switch action {
            case .add: "added"
            case .use: "made the first"
            case .remove: "removed"
            case .list: "listed"
            }
        let done = self.members.count { $0.outcome == .done }
        return "\((self.key ?? "").escaped) \(verb) at \(done) of \(self.members.count) members\n"
    }
}

extension KeyQuestion.Entry {
    fileprivate init(name: String, _ answer: KeyAnswer, isList: Bool) {
        self.name = name
        self.outcome = answer.refusal == nil ? .done : .refused
        self.message = answer.refusal ?? (answer.remark.isEmpty ? nil : answer.remark)
        self.keys = isList && answer.refusal == nil ? answer.fingerprints : nil
    }
}

extension KeyAnswer {
    /// The keys, the one that encrypts first. Agents up to Serf 0.9 do not say which that is, but list it first.
    var fingerprints: [String] {
        let first = self.primaryKey.isEmpty ? [] : [self.primaryKey]
        let texts = first + self.keys.filter { $0 != self.primaryKey }
        return texts.map { KeyRing.Key(base64: $0)?.fingerprint ?? "?" }
    }
}
