import Logging
import NIOCore
import NIOPosix
import Synchronization

/// Samples the process's memory and tells the shards how little to take in. Owned by the first shard's event loop.
final class MemoryWatch {
    private var governor: MemoryGovernor
    private let shared: BrokerShared
    private let eventLoop: any EventLoop
    private let residentBytes: () -> Int?

    /// Nil where no mark is set or the system does not tell.
    init?(shared: BrokerShared, eventLoop: any EventLoop, residentBytes: @escaping () -> Int?) {
        let limit = ProcessMemory.limitBytes()
        guard residentBytes() != nil, let mark = shared.configuration.memoryMark.bytes(ofLimit: limit) else {
            return nil
        }
        self.governor = MemoryGovernor(markBytes: mark)
        self.shared = shared
        self.eventLoop = eventLoop
        self.residentBytes = residentBytes
        shared.memoryMarkBytes.store(mark, ordering: .relaxed)
    }

    /// Takes a sample and sees to the next one.
    func sample() {
        let resident = self.residentBytes() ?? 0
        let before = (self.governor.level, self.governor.refuses)
        let directive = self.governor.onSample(residentBytes: resident, now: .now())
        if (directive.level, directive.refuses) != before {
            for mailbox in self.shared.mailboxes {
                mailbox.post(.command { $0.onMemory(level: directive.level, refusesClients: directive.refuses) })
            }
        }
        let logger = self.shared.configuration.logger
        let metadata: Logger.Metadata = ["resident": "\(resident)", "mark": "\(self.governor.markBytes)"]
        switch directive.change {
        case .entered:
            self.shared.memoryAlarms.add(1, ordering: .relaxed)
            logger.error(
                "memory is above its mark: clients are refused and less may wait for slow ones",
                metadata: metadata
            )
        case .left: logger.notice("memory is no longer short", metadata: metadata)
        case .none: break
        }
        if directive.trims {
            NIOThreadPool.singleton.submit { state in
                if state == .active { ProcessMemory.trim() }
            }
        }
        let bound = NIOLoopBound(self, eventLoop: self.eventLoop)
        self.eventLoop.scheduleTask(in: directive.nextSample) { bound.value.sample() }
    }
}

extension BrokerConfiguration.MemoryMark {
    /// The mark in bytes; nil for none.
    func bytes(ofLimit limit: Int?) -> Int? {
        switch self {
        case .off: nil
        case .bytes(let bytes): bytes
        case .share(let share): limit.map { Int(Double($0) * min(max(share, 0.01), 1)) }
        }
    }
}
