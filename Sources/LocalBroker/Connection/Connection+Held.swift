import Logging
import NIOCore
import Protocol

/// Acknowledgements that wait, in the order of the packets that they are for. [MQTT-4.6.0-2], [MQTT-4.6.0-3]
struct HeldAnswers {
    struct Answer {
        var kind: AckKind
        var packetID: UInt16
        var reason: ReasonCode
        var explanation: String?
        /// Nil where it waits only for those in front of it, or for peers.
        var promise: StoragePromise?
        var peers: PeerPromise?
    }

    /// As many messages as there are packet identifiers may wait.
    static let countMax = Int(UInt16.max)

    fileprivate var answers = CircularBuffer<Answer>()
}

/// Answers to what must be stored first.
extension Connection {
    static let storageFails = "nothing can be stored at the moment"

    /// Acknowledges a message that was taken: when it is stored, if it must be, when peers have it that must, and after all
    /// before it.
    @inline(__always)
    func acknowledgeStored(_ kind: AckKind, _ packetID: UInt16) {
        if self.shard.isStorageAwaited || self.shard.arePeersAwaited || self.held != nil {
            self.hold(
                kind,
                packetID,
                .success,
                nil,
                isAwaited: self.shard.isStorageAwaited,
                arePeersAwaited: self.shard.arePeersAwaited
            )
        } else {
            self.acknowledge(kind, packetID, .success)
        }
    }

    /// - Parameters:
    ///   - isAwaited: it waits for what this tick stores, not only for the answers in front of it.
    ///   - arePeersAwaited: it waits for the peers to have what this tick sends them.
    func hold(
        _ kind: AckKind,
        _ packetID: UInt16,
        _ reason: ReasonCode,
        _ explanation: String?,
        isAwaited: Bool,
        arePeersAwaited: Bool = false
    ) {
        var held = self.held.take() ?? HeldAnswers()
        held.answers.append(
            HeldAnswers.Answer(
                kind: kind,
                packetID: packetID,
                reason: reason,
                explanation: explanation,
                promise: isAwaited ? self.shard.awaitStorage(for: self) : nil,
                peers: arePeersAwaited ? self.shard.awaitPeers(for: self) : nil
            )
        )
        let isTooMany = held.answers.count > HeldAnswers.countMax
        self.held = held
        if isTooMany {
            self.log(.info, "client uses packet identifiers again that are not acknowledged")
            self.disconnect(.receiveMaximumExceeded)
        }
    }

    /// Sends what waits no more.
    func releaseAnswers() {
        guard self.isOpen, var held = self.held.take() else { return }
        while let answer = held.answers.first {
            guard answer.peers?.isOpen != true else {
                self.held = held
                return
            }
            switch answer.promise?.outcome {
            case .open?:
                self.held = held
                return
            case .failed? where answer.kind == .pubRel || answer.kind == .pubComp:
                // There is no way to refuse.
                held.answers[held.answers.startIndex].promise = self.shard.awaitStorage(for: self)
                self.held = held
                return
            case .failed?: self.refuseUnstored(answer)
            case .stored?, nil: self.send(answer)
            }
            held.answers.removeFirst()
            guard self.isOpen else { return }
        }
    }

    private func send(_ answer: HeldAnswers.Answer) {
        guard answer.explanation != nil else {
            return self.acknowledge(answer.kind, answer.packetID, answer.reason)
        }
        self.answer(
            .ack(
                Ack(
                    answer.kind,
                    packetID: answer.packetID,
                    reason: answer.reason,
                    properties: self.explained(answer.explanation)
                )
            )
        )
    }

    /// MQTT 5 has a way to say that a message could not be kept. A client of MQTT 3 gets no answer and sends the message
    /// again when it comes back.
    private func refuseUnstored(_ answer: HeldAnswers.Answer) {
        guard self.version == .v5 else { return }
        // An identifier whose PUBREC has an error is free at once.
        if answer.kind == .pubRec, let session = self.session, session.state.received.remove(answer.packetID) {
            self.shard.forgetReceipt(answer.packetID, of: session)
        }
        var answer = answer
        if answer.reason == .success {
            answer.reason = .quotaExceeded
            answer.explanation = Self.storageFails
        }
        self.send(answer)
    }
}
