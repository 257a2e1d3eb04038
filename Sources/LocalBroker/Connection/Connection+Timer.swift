import Logging
import NIOCore
import Protocol

/// The time a client may take: for CONNECT, between packets, and to read why it is closed.
extension Connection {
    /// A second look after the time that was allowed for CONNECT, or for silence.
    func onTimer() {
        let now = self.shard.now.seconds
        // One timer counts; another one was set before it and is over.
        guard now >= self.timerSeconds else { return }
        self.timerSeconds = 0
        guard now >= self.checkSeconds else {
            self.check(atSeconds: self.checkSeconds)
            return
        }
        switch self.core.phase {
        case .awaitingConnect, .authenticating:
            self.shard.note(.connectTime, self.metadata)
            self.close()
        case .connecting:
            // The client waits for this side, which has a time of its own for each decision and says so when it is over.
            self.check(atSeconds: now + 1)
        case .connected:
            if let access = self.clientAccess, now >= access.expirySeconds {
                self.endForAccess(.notAuthorized, "its credentials have expired")
                return
            }
            guard self.core.silenceLimitSeconds > 0 else {
                self.scheduleSilenceCheck()
                return
            }
            // A client that is not read from cannot be heard.
            if self.isStalled { self.lastRead = self.shard.now }
            if self.shard.now - self.lastRead >= .seconds(Int64(self.core.silenceLimitSeconds)) {
                self.log(.info, "client was silent beyond its keep-alive")
                self.disconnect(.keepAliveTimeout)
            } else {
                self.scheduleSilenceCheck()
            }
        case .closed:
            self.close()
        }
    }

    /// Asks for a look when the client has been silent too long or its credentials have expired.
    func scheduleSilenceCheck() {
        var due = self.clientAccess?.expirySeconds ?? .max
        if self.core.silenceLimitSeconds > 0 {
            due = min(due, (self.lastRead + .seconds(Int64(self.core.silenceLimitSeconds))).seconds + 1)
        }
        guard due < .max else { return }
        self.check(atSeconds: due)
    }

    /// Asks for a look at a later second, in place of any that was asked for before.
    func check(atSeconds second: Int) {
        self.checkSeconds = second
        let now = self.shard.now.seconds
        let next = min(second, now + Shard.timerReachSeconds)
        guard self.timerSeconds <= now || self.timerSeconds > next else { return }
        self.timerSeconds = next
        self.shard.timers.schedule(.connection(self.id), atSeconds: next)
    }
}
