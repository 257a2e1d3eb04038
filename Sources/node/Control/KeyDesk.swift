import Gossip

/// Answers questions about the keys of the ring.
struct KeyDesk: Sendable {
    let node: String
    let ring: GossipNode

    func answer(_ question: KeyQuestion) async throws -> KeyQuestion.Answer {
        do {
            guard question.action != .list else {
                let report = try await self.ring.performOnKeys(.list)
                return KeyQuestion.Answer(node: self.node, key: nil, report: report, isList: true)
            }
            let operation = try await self.operation(question)
            let report = try await self.ring.performOnKeys(operation.operation)
            let key = operation.key.fingerprint
            return KeyQuestion.Answer(node: self.node, key: key, report: report, isList: false)
        } catch let refusal as KeyRefusal {
            throw ControlFailure("nothing was changed: \(refusal.description.escaped)")
        }
    }

    private func operation(_ question: KeyQuestion) async throws -> (operation: KeyOperation, key: KeyRing.Key) {
        let text = question.key ?? ""
        guard question.action != .add else {
            guard let key = KeyRing.Key(base64: text) else { throw Self.isNoKey }
            return (.add(key), key)
        }
        let report = try await self.ring.performOnKeys(.list)
        let key = try self.key(text, among: report.answers[self.node]?.keys ?? [])
        if !question.isForced { try Self.check(question.action, key, report) }
        return (question.action == .use ? .use(key) : .remove(key), key)
    }

    private static let isNoKey = ControlFailure("the key is not the base64 of 16, 24 or 32 bytes; nothing was changed")

    /// - Parameter own: the keys that the node has.
    private func key(_ text: String, among own: [String]) throws -> KeyRing.Key {
        if let key = KeyRing.Key(base64: text) { return key }
        guard text.count == 8, text.allSatisfy(\.isHexDigit) else { throw Self.isNoKey }
        let matches = own.compactMap { KeyRing.Key(base64: $0) }.filter { $0.fingerprint == text.lowercased() }
        guard matches.count == 1 else {
            throw ControlFailure("\(self.node) has no key \(text.lowercased()); nothing was changed")
        }
        return matches[0]
    }

    /// Sees to it that no member is cut off: a key is made the first where all have it, and removed where none has it as
    /// the first.
    private static func check(_ action: KeyQuestion.Action, _ key: KeyRing.Key, _ report: KeyReport) throws {
        let own = key.fingerprint
        var reasons: [String] = report.silent.map { "\($0) does not say which keys it has" }
        for (name, answer) in report.answers.sorted(by: { $0.key < $1.key }) {
            let keys = answer.fingerprints
            if let refusal = answer.refusal {
                reasons.append("\(name) does not say which keys it has: \(refusal)")
            } else if action == .use, !keys.contains(own) {
                reasons.append("\(name) does not have it")
            } else if action == .remove, keys.first == own {
                reasons.append("\(name) encrypts with it")
            }
        }
        guard !reasons.isEmpty else { return }
        let lines = reasons.map { "  \($0.escaped)\n" }.joined()
        throw ControlFailure(
            "the key \(own) is as it was, since members would be cut off; --force does it all the same:\n\(lines)"
        )
    }
}
