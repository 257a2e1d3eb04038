import Protocol

/// The limits a client can run into that are counted and logged alike.
enum Limit: Int, CaseIterable {
    /// Closed at once: so many are over a limit already that it cannot wait to be told.
    case accept
    case connections
    case listenerConnections
    case addressConnections
    case connectRate
    case connectTime
    case memory
    case flapping
    case sessions
    case topic
    case subscriptions
    case retained
    case queue
    case messageRate

    /// Its topic's last level below `$SYS/broker/limits`.
    var topic: String {
        switch self {
        case .accept: "accept"
        case .connections: "connections"
        case .listenerConnections: "listener-connections"
        case .addressConnections: "address-connections"
        case .connectRate: "connect-rate"
        case .connectTime: "connect-time"
        case .memory: "memory"
        case .flapping: "flapping"
        case .sessions: "sessions"
        case .topic: "topic"
        case .subscriptions: "subscriptions"
        case .retained: "retained"
        case .queue: "queue"
        case .messageRate: "message-rate"
        }
    }

    /// What is said in the log.
    var text: String {
        switch self {
        case .accept: "a connection was closed unheard: too many are over the limit"
        case .connections: "a client was refused: there are as many connections as are allowed"
        case .listenerConnections: "a client was refused: its listener has as many connections as are allowed"
        case .addressConnections: "a client was refused: its address has as many connections as are allowed"
        case .connectRate: "clients connect faster than is allowed: some wait to be accepted"
        case .connectTime: "client did not complete CONNECT in time"
        case .memory: "a client was refused: the broker is short of memory"
        case .flapping: "a client was refused: it has connected too often"
        case .sessions: "a client's session will not outlive its connection: as many are kept as are allowed"
        case .topic: "a topic was refused: it has too many levels or bytes"
        case .subscriptions: "a subscription was refused: the client has as many as are allowed"
        case .retained: "a retained message was not kept: the store is full"
        case .queue: "a client was disconnected: its queue is full"
        case .messageRate: "a client sends more than is allowed: it is read from more slowly"
        }
    }

    /// What a client is told that is refused for it.
    var reason: ReasonCode {
        switch self {
        case .addressConnections, .subscriptions, .retained, .queue: .quotaExceeded
        case .flapping: .connectionRateExceeded
        case .topic: .topicNameInvalid
        case .messageRate: .messageRateTooHigh
        default: .serverBusy
        }
    }

    /// Where it is counted.
    var counter: WritableKeyPath<ShardStatistics, UInt64> {
        switch self {
        case .accept: \.closedAtAccept
        case .connections: \.refusedConnections
        case .listenerConnections: \.refusedListenerConnections
        case .addressConnections: \.refusedAddressConnections
        case .connectRate: \.acceptPauses
        case .connectTime: \.connectTimeouts
        case .memory: \.refusedMemory
        case .flapping: \.refusedFlapping
        case .sessions: \.sessionsNotKept
        case .topic: \.refusedTopics
        case .subscriptions: \.refusedSubscriptions
        case .retained: \.refusedRetained
        case .queue: \.disconnectedQueueFull
        case .messageRate: \.rateLimitedReads
        }
    }
}

/// Lets a hundred lines in ten seconds through about what clients do, however many they are.
struct ClientLog {
    static let linesMax = 100

    private var windowEnd = Int.min
    private var lines = 0
    private var silent: UInt64 = 0

    /// Whether a line may be written now: nil if not, else how many were not since the last one.
    mutating func allowsLine(nowSeconds now: Int) -> UInt64? {
        if now >= self.windowEnd {
            self.windowEnd = now + LimitLog.intervalSeconds
            self.lines = 0
        }
        guard self.lines < Self.linesMax else {
            self.silent += 1
            return nil
        }
        self.lines += 1
        defer { self.silent = 0 }
        return self.silent
    }
}

/// Lets one line in ten seconds through for each limit, and says how often it was reached since the one before.
struct LimitLog {
    static let intervalSeconds = 10

    private var nextSeconds = [Int](repeating: .min, count: Limit.allCases.count)
    private var silent = [UInt64](repeating: 0, count: Limit.allCases.count)

    /// A limit was reached. How many times since the last line if one is due now, this one included; nil if not.
    mutating func note(_ limit: Limit, nowSeconds now: Int) -> UInt64? {
        self.silent[limit.rawValue] += 1
        guard now >= self.nextSeconds[limit.rawValue] else { return nil }
        self.nextSeconds[limit.rawValue] = now + Self.intervalSeconds
        defer { self.silent[limit.rawValue] = 0 }
        return self.silent[limit.rawValue]
    }
}
