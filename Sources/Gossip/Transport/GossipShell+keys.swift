internal import Logging
internal import NIOCore
internal import NIOPosix

/// Operations on keys, of this node and by queries on those of others.
extension GossipShell {
    /// Operations that may wait for those before them, which write files.
    private static let operationsMax = 16

    func carryOut(_ directive: SerfDirective) {
        switch directive {
        case .keys(let operation, let source):
            self.perform(operation, for: source.query.sourceNode).assumeIsolated().whenSuccess { outcome in
                self.drive { $0.onKeys(operation, outcome, for: source, now: $1) }
            }
        case .answered(let answers, let silent):
            guard let query = self.keyQuery else { return }
            self.keyQuery = nil
            let all = answers.merging(query.own) { answer, _ in answer }
            query.promise.succeed(KeyReport(answers: all, silent: silent))
        }
    }

    /// Does what an operation says to this node's keys, after those before it.
    ///
    /// - Returns: never fails; the keys that are in force then.
    private func perform(
        _ operation: KeyOperation,
        for asker: String
    ) -> EventLoopFuture<Result<KeyRing, KeyRefusal>> {
        guard let ring = self.sealing.ring else {
            let words = operation == .list ? "Keyring is empty" : "No keyring to modify"
            // The words of agents, which their operators know.
            return self.loop.makeSucceededFuture(.failure(KeyRefusal("\(words) (encryption not enabled)")))
        }
        guard operation != .list else { return self.loop.makeSucceededFuture(.success(ring)) }
        guard self.keyOperations < Self.operationsMax else {
            return self.loop.makeSucceededFuture(.failure(KeyRefusal("too many changes of keys at a time")))
        }
        self.keyOperations += 1
        let before = self.lastKeyOperation ?? self.loop.makeSucceededVoidFuture()
        let promise = self.loop.makePromise(of: Result<KeyRing, KeyRefusal>.self)
        self.lastKeyOperation = promise.futureResult.map { _ in }
        before.assumeIsolated().whenComplete { _ in
            // The keys as they are now: those before may have changed them.
            self.changed(by: operation, self.sealing.ring ?? ring).assumeIsolated().whenComplete { result in
                promise.succeed(self.finish(operation, for: asker, result))
            }
        }
        return promise.futureResult
    }

    private func changed(by operation: KeyOperation, _ ring: KeyRing) -> EventLoopFuture<KeyRing> {
        guard let changeKeys = self.configuration.changeKeys else {
            return self.loop.makeCompletedFuture {
                var ring = ring
                try ring.apply(operation)
                return ring
            }
        }
        return NIOThreadPool.singleton.runIfActive(eventLoop: self.loop) { try changeKeys(operation) }
    }

    private func finish(
        _ operation: KeyOperation,
        for asker: String,
        _ result: Result<KeyRing, any Error>
    ) -> Result<KeyRing, KeyRefusal> {
        self.keyOperations -= 1
        var metadata = operation.metadata(asker)
        switch result {
        case .success(let ring):
            self.logger.notice("gossip: a query about keys was carried out", metadata: metadata)
            self.setKeyRing(ring)
            return .success(ring)
        case .failure(let error):
            metadata["reason"] = "\(error)"
            self.logger.warning("gossip: a query about keys was refused", metadata: metadata)
            return .failure(KeyRefusal("\(error)"))
        }
    }

    /// Does it here, and if that goes well asks all members to do the same.
    func performEverywhere(_ operation: KeyOperation) -> EventLoopFuture<KeyReport> {
        guard !self.isClosed else { return self.loop.makeFailedFuture(GossipError.closed) }
        guard let name = self.instance?.name else { return self.loop.makeFailedFuture(GossipError.closed) }
        guard self.keyQuery == nil else {
            return self.loop.makeFailedFuture(KeyRefusal("another command about keys is underway; try again"))
        }
        let promise = self.loop.makePromise(of: KeyReport.self)
        self.keyQuery = PendingKeyQuery(promise: promise)
        self.perform(operation, for: name).assumeIsolated().whenSuccess { outcome in
            switch outcome {
            // A node that has been closed meanwhile has told it already.
            case _ where self.keyQuery == nil: break
            case .failure(let refusal):
                self.keyQuery = nil
                promise.fail(refusal)
            case .success(let ring):
                self.keyQuery?.own = [name: KeyAnswer(ring, to: operation)]
                self.drive { $0.ask(operation, now: $1) }
            }
        }
        return promise.futureResult
    }

    func failKeyQuery() {
        self.keyQuery?.promise.fail(GossipError.closed)
        self.keyQuery = nil
    }
}

/// A query of this node's own and who waits for its outcome.
struct PendingKeyQuery {
    let promise: EventLoopPromise<KeyReport>
    /// This node's own answer, by its name.
    var own: [String: KeyAnswer] = [:]
}

/// What came of an operation on the keys of all members.
package struct KeyReport: Sendable, Equatable {
    /// By member.
    package var answers: [String: KeyAnswer]
    /// Members that did not answer in time.
    package var silent: [String]
}

extension KeyOperation {
    /// For the log. Keys show by their fingerprints.
    fileprivate func metadata(_ asker: String) -> Logger.Metadata {
        var metadata: Logger.Metadata = ["asked by": "\(asker)"]
        switch self {
        case .list: break
        case .add(let key): metadata["add"] = "\(key.fingerprint)"
        case .use(let key): metadata["use"] = "\(key.fingerprint)"
        case .remove(let key): metadata["remove"] = "\(key.fingerprint)"
        }
        return metadata
    }
}
